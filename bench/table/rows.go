package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// row is a line of the table: a figure and what it should reach.
type row struct {
	figure  string
	what    string
	target  float64 // 0: it has none
	atLeast bool    // the target is a floor, not a ceiling
	beside  string  // the figure that compares it with a peer
	peer    string
	short   bool // stands in the README too
}

func rows() []row {
	return []row{
		{"codec.pack_ns", "codec: pack a 24-field 0100, ns", 1500, false, "codec.pack_ratio_moov", "moov-io/iso8583", true},
		{"codec.unpack_ns", "codec: unpack it, ns", 800, false, "codec.unpack_ratio_moov", "moov-io/iso8583", true},
		{"codec.bcd_pack_ns", "codec: pack it in BCD, ns", 1500, false, "codec.bcd_pack_ratio_moov", "moov-io/iso8583", false},
		{"codec.bcd_unpack_ns", "codec: unpack it in BCD, ns", 800, false, "codec.bcd_unpack_ratio_moov", "moov-io/iso8583", false},
		{"link.roundtrips_per_s", "link: round trips, 256 in flight, one connection, /s", 130_000, true, "link.ratio_moov", "moov-io/iso8583-connection", true},
		{"routing.lookup_ns", "routing: 350,000 ranges and 100 rules, ns", 1000, false, "", "", true},
		{"http.request_us", "door: CPU of a request, µs", 20, false, "http.ratio_nethttp", "net/http and encoding/json", true},
		{"one_node.authorizations_per_s", "one node: authorizations, /s", 17_000, true, "", "", true},
		{"one_node.cpu_us_per_authorization", "one node: CPU each, all processes, µs", 95, false, "", "", true},
		{"one_node.cpu_us_node", "one node: CPU each, the node alone, µs", 70, false, "", "", true},
		{"one_node.p99_ms", "one node: p99 at that rate, ms", 50, false, "", "", true},
		{"one_node.p99_ms_at_500", "one node: p99 at 500/s, ms", 10, false, "", "", true},
		{"overload.goodput_ratio", "one node at twice its peak: answered ÷ at the peak", 0.9, true, "", "", true},
		{"overload.admitted_p99_ms", "one node at twice its peak: p99 of what is taken, ms", 1000, false, "", "", false},
		{"three_nodes.authorizations_per_s", "three nodes here: authorizations, /s", 10_000, true, "three_nodes.ratio_etcd", "etcd, three members, in durable entries", true},
		{"three_nodes.cpu_us_per_authorization", "three nodes: CPU each, all processes, µs", 150, false, "", "", true},
		{"three_nodes.p99_ms", "three nodes: p99 at that rate, ms", 50, false, "", "", true},
		{"three_nodes.p99_ms_at_500", "three nodes: p99 at 500/s, ms", 10, false, "", "", false},
		{"hsm.pin_translate_per_s", "hsmd: PIN translations over the Unix socket, 64 in flight, /s", 150_000, true, "hsm.ratio_pkcs11", "SoftHSM's PKCS#11 in process", true},
		{"hsm.pin_translate_cpu_us", "hsmd: CPU of one, both sides, µs", 6, false, "", "", false},
		{"hsm.dukpt_cpu_us", "hsmd: CPU of one from TDES DUKPT, both sides, µs", 20, false, "", "", false},
		{"node.mac_pin_cpu_us", "one node: CPU of an authorization with MACs and a PIN, all processes, µs", 0, false, "node.mac_pin_ratio", "of one without", false},
		{"movements.captures_per_s", "one node: captures, 64 in flight, /s", 0, false, "", "", false},
		{"movements.refunds_per_s", "one node: online refunds, 64 in flight, /s", 0, false, "", "", false},
		{"batch.lines_per_s", "a batch of 30,000 refunds beside 2,000 authorizations/s, lines/s", 2000, true, "", "", true},
		{"batch.p99_ratio", "the p99 of those authorizations ÷ without the batch", 1.2, false, "", "", true},
		{"records.captured_ratio", "CPU of an authorization with its capture ÷ without, the node", 0, false, "", "", false},
		{"records.stored_card_ratio", "CPU of one by stored card ÷ by number, the node", 0, false, "", "", false},
		{"records.tagged_ratio", "CPU of one with three tags ÷ without, the node", 0, false, "", "", false},
		{"tls.cpu_ratio", "three nodes: CPU of a commit with mutual TLS ÷ without", 0, false, "", "", false},
		{"sustained.p99_ms", "sustained run at 1,000/s: p99, ms", 0, false, "", "", false},
		{"sustained.live_mib_per_minute", "sustained run: growth of live memory, MiB a minute", 0, false, "", "", false},
		{"reversals.drained_per_s", "reversals drained after an outage, one link, /s", 2000, true, "", "", true},
	}
}

// shortRows are those of the README.
func shortRows() []row {
	return slices.DeleteFunc(rows(), func(r row) bool { return !r.short })
}

// print writes the table, then every figure that is not in it, then what was
// not run.
func (t *table) print(out io.Writer, machine string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s\n\n\tmeasured\ttarget\t\tpeer\n", machine)
	shown := map[string]bool{}
	for _, r := range rows() {
		v, there := t.figures[r.figure]
		shown[r.figure], shown[r.beside] = true, true
		if !there {
			_, _ = fmt.Fprintf(w, "%s\tnot run\t%s\t\t\n", r.what, r.bound())
			continue
		}
		verdict := "met"
		switch {
		case r.target == 0:
			verdict = ""
		case !r.met(v):
			verdict = "SHORT"
		}
		peer := ""
		if ratio, there := t.figures[r.beside]; there {
			peer = r.comparison(ratio)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, number(v), r.bound(), verdict, peer)
	}
	_, _ = fmt.Fprintln(w)
	for _, name := range slices.Sorted(maps.Keys(t.figures)) {
		if !shown[name] {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, number(t.figures[name]))
		}
	}
	for _, m := range t.missing {
		_, _ = fmt.Fprintf(w, "not run: %s\n", m)
	}
	return w.Flush()
}

// comparison is a ratio in words: with another program's, or with another figure
// of ours ("of …").
func (r *row) comparison(ratio float64) string {
	if strings.HasPrefix(r.peer, "of ") {
		return number(ratio) + " × that " + r.peer
	}
	return number(ratio) + " × better than " + r.peer
}

func (r *row) met(v float64) bool {
	if r.target == 0 {
		return true
	}
	if r.atLeast {
		return v >= r.target
	}
	return v <= r.target
}

func (r *row) bound() string {
	if r.target == 0 {
		return ""
	}
	if r.atLeast {
		return "≥ " + number(r.target)
	}
	return "≤ " + number(r.target)
}

// round keeps four significant digits: more would be noise in every commit.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

func number(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }
