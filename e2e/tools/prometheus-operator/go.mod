// The Prometheus operator, of which the end-to-end tests take the definitions of its kinds.
module harmony.dev/e2e/tools/prometheus-operator

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
