package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
)

// section is one struct of the configuration.
type section struct {
	title  string
	folder string
	typ    string
	prefix string // of the keys, as they stand in the file
}

func sections() []section {
	return []section{
		{"The gateways' door", "api", "Config", "api."},
		{"Links", "link", "Config", "links[]."},
		{"Journal and store", "store", "Config", "store."},
		{"Security module, as a node sees it", "hsm", "Config", "hsm."},
		{"Stored cards under a newer data key", "vault/reseal", "Config", "reseal."},
		{"Security module (hsmd's own file)", "hsm/server", "Config", "limits."},
		{"Refund batches", "batch", "Config", "batches."},
		{"Gateways", "merchant", "GatewayConfig", "gateways[]."},
		{"Contracts", "merchant", "ContractConfig", "merchants[].contracts[]."},
		{"Simulators (scenario file)", "sim", "Config", ""},
		{"Latency of simulators (scenario file)", "sim", "Latency", "latency."},
	}
}

// units of the counts, by key. Durations and bytes name their own.
func units() map[string]string {
	return map[string]string{
		"connections": "connections", "connections_in_all": "connections", "connections_per_address": "connections", "requests": "requests", "page_size": "payments",
		"window": "requests", "window_floor": "requests", "reversal_window": "reversals", "late_memory": "requests", "echo_misses": "echoes",
		"queue_commands": "commands", "batches_in_flight": "batches", "snapshot_threshold": "entries", "trailing_logs": "entries",
		"rate_per_second": "requests/s", "burst": "requests", "max_amount": "minor units", "min_amount": "minor units", "priority": "a rank",
		"workers": "operations", "per_connection": "operations", "cached_keys": "keys", "parents": "keys", "devices": "devices", "reveals_per_minute": "cards", "outbox_per_second": "cards", "captures_per_second": "cards", "reseals_per_second": "cards", "per_second": "cards/s",
		"host_header": "characters",
		"lines":       "lines", "uploads": "files", "release_limit": "minor units", "rate": "lines/s", "link_window": "operations", "step": "lines",
		"max_connections": "connections", "max_decisions": "decisions", "max_delayed": "answers",
	}
}

// fixed are the bounds that no file changes: a folder's constants and what
// they count.
func fixed() []struct{ folder, constant, unit string } {
	return []struct{ folder, constant, unit string }{
		{"cmd/authswitch", "maxConfigBytes", "bytes"},
		{"cmd/authswitch", "dialsPerSecond", "connections/s"},
		{"cmd/authswitch", "dialsBurst", "connections"},
		{"cmd/authswitch", "adminTimeout", ""},
		{"cmd/authswitch", "clientTimeout", ""},
		{"cmd/authswitch", "stopDoor", ""},
		{"cmd/authswitch", "stopStore", ""},
		{"api", "maxAPIKey", "bytes"},
		{"api", "maxFields", "members"},
		{"api", "maxDepth", "levels"},
		{"api", "maxFaults", "errors"},
		{"query", "MaxPage", "payments"},
		{"batch", "maxLine", "bytes"},
		{"batch", "maxLeft", "payments"},
		{"payment", "MaxBatchLanes", "links"},
		{"payment", "MaxBatchCurrencies", "currencies"},
		{"people", "checks", "credentials"},
		{"payment", "MaxAmount", "minor units"},
		{"routing", "maxContracts", "contracts"},
		{"routing", "maxLinks", "links"},
		{"routing", "MaxRoutes", "routes"},
		{"routing", "maxRules", "rules"},
		{"routing", "maxOps", "operations"},
		{"routing", "maxRanges", "ranges"},
		{"iso8583", "MaxFrame", "bytes"},
		{"iso8583", "maxSubfields", "subfields"},
		{"iso8583", "maxFileBytes", "bytes"},
		{"iso8583", "maxExtends", "files"},
		{"link", "maxConnections", "connections"},
		{"link", "maxWindow", "requests"},
		{"link", "maxLateMemory", "requests"},
		{"link", "maxInAll", "connections"},
		{"link", "maxArriving", "connections"},
		{"handover", "maxInWork", "requests"},
		{"handover", "maxFrame", "bytes"},
		{"handover", "fresh", ""},
		{"link", "maxReports", "reports"},
		{"link", "logEvery", ""},
		{"link", "logBurst", "lines"},
		{"link", "leaseTimeout", ""},
		{"outbox", "unreadablePause", ""},
		{"outbox", "unavailablePause", ""},
		{"journal", "firstRepeat", ""},
		{"journal", "longestRepeat", ""},
		{"journal", "exceptionRepeat", ""},
		{"journal", "maxOwed", "reversals"},
		{"journal", "MaxCommand", "bytes"},
		{"journal", "MaxEntry", "bytes"},
		{"journal", "maxSealed", "bytes"},
		{"journal", "maxKeys", "keys"},
		{"journal", "maxText", "bytes"},
		{"journal", "HistoryLimit", "events"},
		{"store", "slowWrite", ""},
		{"store", "paceWrites", "writes"},
		{"store", "paceFor", ""},
		{"store", "handOverPause", ""},
		{"store", "paceTick", ""},
		{"switch", "maxCodes", "codes"},
		{"hsm", "maxEndpoints", "endpoints"},
		{"hsm/wire", "MaxFrame", "bytes"},
		{"hsm/wire", "MaxCards", "cards"},
		{"hsm/server", "maxText", "bytes"},
		{"hsm/server", "maxID", "bytes"},
		{"sim", "maxScenarioBytes", "bytes"},
	}
}

// row is one line of a table.
type row struct{ name, value, unit, reason string }

// document is the whole file, or everything that keeps it from being true.
func document(root string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Limits\n\nGenerated by `make docs` from the sources: edit the comments there. Everything that can grow has a bound; what is over it is refused at once with a clear answer.\n")
	var faults []error
	read := map[string]*folder{}
	open := func(name string) (*folder, error) {
		if read[name] == nil {
			f, err := readFolder(filepath.Join(root, name))
			if err != nil {
				return nil, err
			}
			read[name] = f
		}
		return read[name], nil
	}
	for _, s := range sections() {
		f, err := open(s.folder)
		if err != nil {
			return nil, err
		}
		rows, errs := f.limits(s.typ, s.prefix)
		faults = append(faults, errs...)
		table(&b, s.title, "default", rows)
	}
	b.WriteString("\nA default of 0 is no limit of ours, or what its reason says.\n")
	var rows []row
	for _, c := range fixed() {
		f, err := open(c.folder)
		if err != nil {
			return nil, err
		}
		r, err := f.constant(c.folder, c.constant, c.unit)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		rows = append(rows, r)
	}
	table(&b, "What no file changes", "value", rows)
	return b.Bytes(), errors.Join(faults...)
}

func table(b *bytes.Buffer, title, value string, rows []row) {
	fmt.Fprintf(b, "\n## %s\n\n| name | %s | unit | reason |\n|---|--:|---|---|\n", title, value)
	for _, r := range rows {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", r.name, r.value, r.unit, r.reason)
	}
}
