package topcmd

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// states and holds are the values of link_state and link_held, which are in
// the order of the code.
var (
	states = []string{"down", "connected", "draining", "suspect", "ready"}
	holds  = []string{"", " (drained)", " (signed off)"}
)

// view writes one screen: the node, its journal, and a line for each link.
func (p span) view(from string, at time.Time) string {
	var b strings.Builder
	leader := "not leading"
	if p.now.sum("raft_leader") == 1 {
		leader = "leading"
	}
	fmt.Fprintf(&b, "%s  %s  %s, applied %.0f\n\n", from, at.UTC().Format(time.TimeOnly), leader, p.now.sum("raft_applied_index"))
	requests := p.rate("http_requests_total")
	fmt.Fprintf(&b, "door      %s requests/s, %s refused/s (429, 503), p50 %s, p99 %s\n",
		number(requests), number(p.rate("http_requests_total", "status", "429")+p.rate("http_requests_total", "status", "503")),
		duration(p.quantile(.5, "http_request_seconds", "route", "/v1/authorizations")), duration(p.quantile(.99, "http_request_seconds", "route", "/v1/authorizations")))
	commits := p.rate("raft_commit_seconds_count")
	fmt.Fprintf(&b, "journal   %s commits/s of %s commands, p50 %s, p99 %s\n", number(commits), number(p.rate("raft_batch_commands_sum")/max(commits, 1e-9)),
		duration(p.quantile(.5, "raft_commit_seconds")), duration(p.quantile(.99, "raft_commit_seconds")))
	owed := p.now.sum("reversals_owed")
	fmt.Fprintf(&b, "owed      %.0f reversals, %s sent/s, %s acknowledged/s, %.0f exceptions\n", owed,
		number(p.rate("reversal_transmissions_total")), number(p.rate("reversal_results_total", "result", "acknowledged")), p.now.sum("reversal_exceptions"))
	fmt.Fprintf(&b, "process   %.0f %% of a processor, %.0f MiB, %.0f goroutines\n\n", 100*p.rate("process_cpu_seconds_total"),
		p.now.sum("process_resident_memory_bytes")/(1<<20), p.now.sum("go_goroutines"))
	p.links(&b)
	return b.String()
}

func (p span) links(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "LINK\tSCHEME\tSTATE\tAUTH/S\tAPPROVED\tUNKNOWN/S\tP50\tP99\tIN FLIGHT\tWINDOW\tREFUSED/S\tTIMEOUT/S\tLATE/S\tOWED\tOLDEST\tEXCEPTIONS\t")
	for _, link := range p.now.values("link_state", "link") {
		of := []string{"link", link}
		with := func(more ...string) []string { return append(of[:2:2], more...) }
		all := p.rate("authorizations_total", of...)
		approved := "-"
		if all > 0 {
			yes := p.rate("authorizations_total", with("status", "approved")...) + p.rate("authorizations_total", with("status", "partially_approved")...)
			approved = fmt.Sprintf("%.1f %%", 100*yes/all)
		}
		scheme := ""
		for _, s := range p.now["link_state"] {
			if s.label("link") == link {
				scheme = s.label("scheme")
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%.0f\t%s\t%s\t%s\t%.0f\t%s\t%.0f\t\n", link, scheme,
			named(states, p.now.sum("link_state", of...))+named(holds, p.now.sum("link_held", of...)), number(all), approved,
			number(p.rate("authorizations_total", with("status", "unknown")...)),
			duration(p.quantile(.5, "authorization_seconds", of...)), duration(p.quantile(.99, "authorization_seconds", of...)),
			p.now.sum("link_in_flight", of...), p.now.sum("link_window", of...), number(p.rate("link_window_refusals_total", of...)), number(p.rate("link_timeouts_total", of...)),
			number(p.rate("link_late_answers_total", of...)), p.now.sum("reversals_owed_by_link", of...),
			age(p.now.sum("reversals_oldest_age_seconds", of...)), p.now.sum("reversal_exceptions", of...))
	}
	_ = t.Flush() // into memory
}

func named(names []string, v float64) string {
	if v < 0 || int(v) >= len(names) {
		return "?"
	}
	return names[int(v)]
}

// number shows what a person compares: tenths below a hundred, whole above.
func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func duration(seconds float64) string {
	switch {
	case math.IsNaN(seconds):
		return "-"
	case seconds < 1:
		return fmt.Sprintf("%.1f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.2f s", seconds)
}

func age(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
