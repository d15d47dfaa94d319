/* Ventilator, workers and sink of the ZeroMQ Guide's pipeline, as plain as it gets: PUSH and PULL over TCP on loopback, each
 * message one task, a process for each part. What a worker or the sink holds when it dies is lost.
 *
 * Usage: pipeline TASKS BYTES WORKERS. Prints the seconds from the first task sent to the last one at the sink. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static void *open_socket(int type) {
    void *socket = zmq_socket(zmq_ctx_new(), type);
    if (!socket) exit(2);
    return socket;
}

/* Binds to a free port of loopback, whose endpoint is then in `endpoint`. */
static void bind_free(void *socket, char *endpoint, size_t size) {
    if (zmq_bind(socket, "tcp://127.0.0.1:*") || zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size)) exit(2);
}

static void forward(const char *from, const char *to) {
    void *in = open_socket(ZMQ_PULL), *out = open_socket(ZMQ_PUSH);
    zmq_msg_t message;
    if (zmq_connect(in, from) || zmq_connect(out, to)) exit(2);
    zmq_send(out, "", 0, 0); /* ready */
    for (;;) {
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, in, 0) < 0 || zmq_msg_send(&message, out, 0) < 0) exit(2);
    }
}

static void ventilate(int endpoint_out, int start_in, long tasks, size_t bytes) {
    char endpoint[64] = {0}, byte, *task = calloc(1, bytes + 1);
    void *out = open_socket(ZMQ_PUSH);
    bind_free(out, endpoint, sizeof endpoint);
    if (write(endpoint_out, endpoint, sizeof endpoint) < 0 || read(start_in, &byte, 1) != 1) exit(2);
    for (long sent = 0; sent < tasks; sent++)
        if (zmq_send(out, task, bytes, 0) < 0) exit(2);
    pause();
}

static void receive(void *in, long messages) {
    zmq_msg_t message;
    while (messages--) {
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, in, 0) < 0) exit(2);
        zmq_msg_close(&message);
    }
}

int main(int count, char **words) {
    int endpoints[2], starts[2], workers = count == 4 ? atoi(words[3]) : 0;
    long tasks = workers ? atol(words[1]) : 0;
    char ventilator[64], sink[64] = {0};
    struct timespec begun, ended;
    if (!workers || pipe(endpoints) || pipe(starts)) return 2;
    signal(SIGTERM, SIG_DFL);
    setpgid(0, 0);
    if (!fork()) ventilate(endpoints[1], starts[0], tasks, (size_t)atol(words[2]));
    if (read(endpoints[0], ventilator, sizeof ventilator) != sizeof ventilator) return 2;
    void *in = open_socket(ZMQ_PULL);
    bind_free(in, sink, sizeof sink);
    for (int worker = 0; worker < workers; worker++)
        if (!fork()) forward(ventilator, sink);
    receive(in, workers);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    if (write(starts[1], "", 1) != 1) return 2;
    receive(in, tasks);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.6f\n", (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    return 0;
}
