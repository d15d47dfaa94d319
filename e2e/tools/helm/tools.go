//go:build tools

// Package tools names Helm, with which the end-to-end tests install the chart.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
