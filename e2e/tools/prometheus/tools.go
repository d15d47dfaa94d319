//go:build tools

// Package tools names Prometheus, which watches Harmony in the end-to-end tests. Debian's cannot find pods.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
