package main_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// sample is one line of a scrape.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

// scrape reads /metrics as Prometheus would.
func (d *instance) scrape() []sample {
	d.t.Helper()
	response, err := http.Get(d.info.Admin + "/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	var all []sample
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		m := sampleLine.FindStringSubmatch(lines.Text())
		if m == nil {
			d.t.Fatalf("not a sample: %q", lines.Text())
		}
		s := sample{name: m[1], labels: map[string]string{}}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			s.labels[pair[1]] = pair[2]
		}
		if s.value, err = strconv.ParseFloat(m[3], 64); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// find is the one sample of a name with exactly these labels.
func find(all []sample, name string, labels map[string]string) (float64, bool) {
	for _, s := range all {
		if s.name == name && maps.Equal(s.labels, labels) {
			return s.value, true
		}
	}
	return 0, false
}

// labelsOf reads `link=visa-a scheme=visa`.
func labelsOf(words string) map[string]string {
	labels := map[string]string{}
	for pair := range strings.FieldsSeq(words) {
		name, value, _ := strings.Cut(pair, "=")
		labels[name] = value
	}
	return labels
}

// What the node counts, with its labels, and whether the traffic of this test
// must have moved it. The board and the alarms ask for nothing else.
func TestMetrics(t *testing.T) {
	hsmd(t) // its metrics are watched too
	d := startDev(t)
	whileSilent(t, d)
	all := d.scrape()
	for _, c := range []struct {
		name, labels string
		moved        bool
	}{
		// Requests by response code.
		{"authorizations_total", "link=visa-a scheme=visa status=approved response_code=00", true},
		{"authorizations_total", "link=visa-a scheme=visa status=declined response_code=51", true},
		{"authorizations_total", "link=visa-a scheme=visa status=unknown response_code=", true},
		{"authorizations_total", "link=cb-a scheme=cb status=approved response_code=00", true},
		{"authorizations_not_sent_total", "link=visa-a", false},
		{"http_requests_total", "route=/v1/authorizations status=201", true},
		{"http_requests_total", "route=/v1/authorizations status=504", true},
		{"http_request_seconds_count", "route=/v1/authorizations", true},
		// Latency by stage.
		{"authorization_seconds_count", "link=visa-a scheme=visa", true},
		{"authorization_stage_seconds_sum", "link=visa-a scheme=visa stage=encode", true},
		{"authorization_stage_seconds_sum", "link=visa-a scheme=visa stage=open", true},
		{"authorization_stage_seconds_sum", "link=visa-a scheme=visa stage=exchange", true},
		{"authorization_stage_seconds_sum", "link=visa-a scheme=visa stage=close", true},
		{"authorization_stage_seconds_count", "link=cb-a scheme=cb stage=exchange", true},
		// The link.
		{"link_state", "link=visa-a scheme=visa", true},
		{"link_in_flight", "link=visa-a scheme=visa", false},
		{"link_held", "link=visa-a scheme=visa", false},
		{"link_window_refusals_total", "link=visa-a scheme=visa", false},
		{"link_late_answers_total", "link=visa-a scheme=visa", true},
		{"link_unmatched_answers_total", "link=visa-a scheme=visa", true},
		{"link_timeouts_total", "link=visa-a scheme=visa", true},
		{"link_reconnects_total", "link=visa-a scheme=visa", false},
		{"link_lost_in_flight_total", "link=visa-a scheme=visa", false},
		{"link_not_sent_total", "link=visa-a scheme=visa", false},
		{"link_unparsable_frames_total", "link=visa-a scheme=visa", false},
		{"link_dropped_reports_total", "link=visa-a scheme=visa", false},
		{"link_round_trip_seconds_count", "link=visa-a scheme=visa", true},
		{"link_frames_per_write_count", "link=visa-a scheme=visa", true},
		{"link_echo_rtt_seconds_count", "link=visa-a scheme=visa", false},
		// What is owed.
		{"reversals_owed", "", false},
		{"reversals_owed_by_link", "link=visa-a scheme=visa", false},
		{"reversals_oldest_age_seconds", "link=visa-a scheme=visa", false},
		{"reversal_exceptions", "link=visa-a scheme=visa", false},
		{"reversal_transmissions_total", "link=visa-a scheme=visa transmission=first", true},
		{"reversal_transmissions_total", "link=visa-a scheme=visa transmission=repeat", true},
		{"reversal_results_total", "link=visa-a scheme=visa result=acknowledged", true},
		{"reversal_results_total", "link=visa-a scheme=visa result=repeat_asked", true},
		{"reversal_results_total", "link=visa-a scheme=visa result=unanswered", false},
		{"reversal_results_total", "link=visa-a scheme=visa result=failed", false},
		// The journal.
		{"raft_leader", "", true},
		{"raft_applied_index", "", true},
		{"clearing_out_of_balance_total", "link=visa-a", false},
		{"http_overload_refusals_total", "priority=customer reason=queue_age", false},
		{"raft_commit_seconds_count", "", true},
		{"raft_commit_seconds_sum", "", true},
		{"raft_batch_commands_count", "", true},
		{"raft_batch_commands_sum", "", true},
	} {
		value, found := find(all, c.name, labelsOf(c.labels))
		if !found {
			t.Errorf("%s{%s} is missing", c.name, c.labels)
		} else if c.moved && value == 0 {
			t.Errorf("%s{%s} is zero after traffic", c.name, c.labels)
		}
	}
	if leader, _ := find(all, "raft_leader", nil); leader != 1 {
		t.Errorf("raft_leader is %v on a cluster's only member", leader)
	}
	t.Run("board", func(t *testing.T) { holdBoard(t, all) })
	t.Run("alarms", func(t *testing.T) { holdAlarms(t, all) })
}

// whileSilent sends what every kind of answer needs, and sees the gauges move
// while an acquirer is silent and while it has not acknowledged.
func whileSilent(t *testing.T, d *instance) {
	d.authorize("cb", cbCard, 1000)
	d.authorize("approved", visaCard, 1000)
	d.authorize("declined", visaCard, 1051)
	var silent sync.WaitGroup
	// Late; another STAN in the answer; a reversal answered 91 twice.
	for key, amount := range map[string]int{"late": 1069, "stranger": 1071, "again": 1086} {
		silent.Go(func() { _, _ = d.tryAsk(http.MethodPost, "/v1/authorizations", key, d.body(visaCard, amount)) })
	}
	visa := labelsOf("link=visa-a scheme=visa")
	gauge := func(name string, labels map[string]string) float64 {
		value, _ := find(d.scrape(), name, labels)
		return value
	}
	eventually(t, 5*time.Second, "requests in flight", func() bool { return gauge("link_in_flight", visa) > 0 })
	silent.Wait()
	eventually(t, 5*time.Second, "reversals owed, and their age", func() bool {
		all := d.scrape()
		owed, _ := find(all, "reversals_owed", nil)
		byLink, _ := find(all, "reversals_owed_by_link", visa)
		age, _ := find(all, "reversals_oldest_age_seconds", visa)
		return owed > 0 && byLink > 0 && age > 0
	})
	eventually(t, 20*time.Second, "nothing owed", func() bool {
		return gauge("reversals_owed", nil) == 0 && gauge("link_late_answers_total", visa) > 0
	})
}

// holdBoard holds the Grafana board to what was scraped.
func holdBoard(t *testing.T, all []sample) {
	b, err := os.ReadFile("../../deploy/grafana/authswitch.json")
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		ID          int
		Type        string
		Title       string
		Description string
		Datasource  struct{ UID string }
		GridPos     struct{ X, Y, W, H int }
		FieldConfig struct{ Defaults struct{ Unit string } }
		Targets     []struct{ Expr string }
	}
	var board struct {
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []panel
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	if board.SchemaVersion < 41 {
		t.Errorf("schemaVersion %d is old", board.SchemaVersion)
	}
	sources := 0
	for _, v := range board.Templating.List {
		if v.Type == "datasource" {
			sources++
		} else {
			holdExpression(t, all, "variable "+v.Name, strings.TrimPrefix(v.Definition, "label_values"))
		}
	}
	if sources != 1 {
		t.Errorf("%d datasource variables", sources)
	}
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	shown := map[string]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is used twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q lacks title, description, unit, datasource or query", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range holdExpression(t, all, p.Title, target.Expr) {
				shown[name] = true
			}
		}
	}
	// What issue and design ask to be seen.
	for _, name := range []string{
		"authorizations_total", "authorization_stage_seconds_bucket", "authorization_seconds_bucket", "link_in_flight", "link_window_refusals_total",
		"link_late_answers_total", "link_unmatched_answers_total", "reversals_owed", "reversals_owed_by_link", "reversals_oldest_age_seconds",
		"raft_leader_changes_total", "raft_leader_contact_seconds", "raft_apply_lag_entries", "raft_snapshot_age_seconds", "raft_log_write_seconds_bucket",
		"raft_forward_seconds_bucket", "sessions_lost_total", "sessions_ended_total", "session_valid", "clock_deviation_seconds", "clock_agreed", "fenced",
		"reversal_transmissions_total", "raft_commit_seconds_bucket", "raft_batch_commands_sum", "raft_leader", "raft_applied_index",
		"http_overload_refusals_total", "raft_queue_age_seconds", "raft_queue_wait_seconds_bucket", "link_window", "link_window_configured",
	} {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// holdAlarms holds every alarm to what was scraped, and to a section of the
// operators' manual that says what to do.
func holdAlarms(t *testing.T, all []sample) {
	b, err := os.ReadFile("../../deploy/prometheus/alarms.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] {
				t.Errorf("%s stands twice", r.Alert)
			}
			seen[r.Alert] = true
			if r.Expr == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
				t.Errorf("%s lacks expression, severity or summary", r.Alert)
			}
			if !strings.Contains(string(manual), "\n### "+r.Alert+"\n") {
				t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
			}
			holdExpression(t, all, r.Alert, r.Expr)
		}
	}
	if len(seen) == 0 {
		t.Error("no alarm")
	}
	for line := range strings.SplitSeq(string(manual), "\n") {
		if name, ok := strings.CutPrefix(line, "### Authswitch"); ok && !seen["Authswitch"+name] {
			t.Errorf("docs/operations.md tells of an alarm that is none: Authswitch%s", name)
		}
	}
}

// What PromQL has besides names of metrics.
var (
	quoted       = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	durations    = regexp.MustCompile(`\[[^\]]*\]`)
	grouping     = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	selector     = regexp.MustCompile(`([a-z_]+)\{([^}]*)\}`)
	matcher      = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	identifier   = regexp.MustCompile(`\b[a-z_][a-z_0-9]*\b(\s*\()?`)
	promQLWords  = []string{"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"}
	ofPrometheus = []string{"up"} // what Prometheus adds to every target
	itsLabels    = []string{"instance", "job", "le"}
)

// holdExpression says which metrics a query reads, and fails for one that no
// scrape has, or a label that none of its metrics has.
func holdExpression(t *testing.T, all []sample, where, expression string) []string {
	t.Helper()
	labelsOf := map[string]map[string]bool{}
	for _, s := range all {
		if labelsOf[s.name] == nil {
			labelsOf[s.name] = map[string]bool{}
		}
		for l := range s.labels {
			labelsOf[s.name][l] = true
		}
	}
	text := durations.ReplaceAllString(quoted.ReplaceAllString(expression, `""`), "")
	for _, m := range selector.FindAllStringSubmatch(text, -1) {
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !labelsOf[m[1]][l[1]] && !slices.Contains(itsLabels, l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
	}
	text = selector.ReplaceAllString(text, "$1")
	var groups []string
	for _, m := range grouping.FindAllStringSubmatch(text, -1) {
		groups = append(groups, strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	text = grouping.ReplaceAllString(text, "")
	var names []string
	if inner, variable := strings.CutPrefix(text, "("); variable && strings.Contains(text, ",") && !strings.Contains(text, "/") {
		// label_values(metric, label) of a variable
		name, label, _ := strings.Cut(strings.TrimSuffix(inner, ")"), ",")
		text, groups = name, []string{strings.TrimSpace(label)}
	}
	for _, word := range identifier.FindAllString(text, -1) {
		if strings.HasSuffix(word, "(") || slices.Contains(promQLWords, word) || slices.Contains(ofPrometheus, word) {
			continue
		}
		names = append(names, word)
		if labelsOf[word] == nil {
			t.Errorf("%s: no metric %s", where, word)
		}
	}
	for _, l := range groups {
		known := slices.Contains(itsLabels, l)
		for _, name := range names {
			known = known || labelsOf[name][l]
		}
		if !known {
			t.Errorf("%s: none of %v has a label %s", where, names, l)
		}
	}
	if len(names) == 0 && !strings.Contains(expression, "up") {
		t.Errorf("%s: %q reads no metric", where, expression)
	}
	return names
}
