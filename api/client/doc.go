// Package client is a Go client of the switch's HTTP API, generated from
// api/openapi.yaml by oapi-codegen: `make client` writes it again.
//
// It is here for gateways written in Go and as the proof that the file is one
// that generators understand: its test runs it against a node. Nothing of the
// switch imports it.
package client

//go:generate go tool oapi-codegen -config oapi-codegen.yaml ../openapi.yaml
