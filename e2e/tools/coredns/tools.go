//go:build tools

// Package tools names the DNS server that the end-to-end tests run.
package tools

import _ "github.com/coredns/coredns"
