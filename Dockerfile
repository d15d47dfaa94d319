# syntax=docker/dockerfile:1
# One image with all of Harmony: `harmony` (worker, collector, command line) and `harmony-operator`.
#   docker buildx build --platform linux/amd64,linux/arm64 --tag harmony:dev .

# The compiler runs on the builder's own architecture and makes programs for the image's: emulating would take hours.
FROM --platform=$BUILDPLATFORM rust:1.95-slim-bookworm AS compile
ARG TARGETARCH
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]
WORKDIR /source
# The base image's release says which versions these are.
# hadolint ignore=DL3008
RUN case "$TARGETARCH" in \
      amd64) machine=x86_64 ;; \
      arm64) machine=aarch64 ;; \
      *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    echo "$machine" > /machine; \
    rustup target add "$machine-unknown-linux-gnu"; \
    if [ "$TARGETARCH" = "$(dpkg --print-architecture)" ]; then \
      packages=(ca-certificates gcc g++ libc6-dev); \
    else \
      gnu="${machine/_/-}-linux-gnu"; \
      packages=(ca-certificates "gcc-$gnu" "g++-$gnu" "libc6-dev-$TARGETARCH-cross"); \
    fi; \
    apt-get update; \
    apt-get install --yes --no-install-recommends "${packages[@]}"; \
    rm -rf /var/lib/apt/lists/*
COPY . .
# Static, since it is copied into images that have another C library or none.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build,id=build-$TARGETARCH,sharing=locked \
    machine="$(cat /machine)"; target="$machine-unknown-linux-gnu"; variable="${target//-/_}"; \
    export "CC_$variable=$machine-linux-gnu-gcc" "CXX_$variable=$machine-linux-gnu-g++"; \
    export "CARGO_TARGET_${variable^^}_LINKER=$machine-linux-gnu-gcc"; \
    export CARGO_TARGET_DIR=/build CARGO_BUILD_BUILD_DIR=/build RUSTFLAGS='--codegen=target-feature=+crt-static'; \
    cargo build --locked --profile dist --target "$target" --package harmony --package harmony-operator; \
    mkdir --parents /out/bin /out/etc/ssl/certs; \
    cp "/build/$target/dist/harmony" "/build/$target/dist/harmony-operator" /out/bin/; \
    ln --symbolic harmony /out/bin/kubectl-harmony; \
    cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

# What the image has besides nothing. A stage of its own, so that programs built elsewhere can take its place:
#   --build-context build=DIR
FROM scratch AS build
COPY --from=compile /out/ /out/

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="Harmony" \
      org.opencontainers.image.description="Runs a batch of numbered tasks on warm workers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# With the authorities that sources of tasks behind https are trusted by.
COPY --from=build --chown=0:0 /out/ /
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/harmony"]
