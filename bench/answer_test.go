package bench

import (
	"testing"

	"github.com/valyala/fastjson"
)

// What readDecision understands, it understands as readAnswer does; what it
// could mistake, it leaves alone.
func TestReadDecision(t *testing.T) {
	tests := []struct {
		status int
		body   string
		reads  bool
	}{
		{201, `{"id":"auth_1","status":"approved","amount":{"value":1,"currency":"EUR"},"final":true}`, true},
		{201, `{"id":"auth_1","status":"declined","reason":"insufficient_funds"}`, true},
		{201, `{"id":"auth_1","status":"partially_approved"}`, false},
		{201, `{"id":"auth_1","status":"approv`, false},
		{201, `{"id":"auth_1","reason":"\",\"status\":\"declined","status":"approved"}`, false},
		{201, `{"id":"auth_1","link":"cb-a","status":"approved"}`, false},
		{201, `{"status":"approved","id":"auth_1"}`, false},
		{201, ``, false},
		{200, `{"id":"auth_1","status":"approved"}`, false},
		{504, `{"id":"auth_1","status":"approved"}`, false},
	}
	for _, tt := range tests {
		got, ok := readDecision(tt.status, []byte(tt.body))
		if ok != tt.reads {
			t.Errorf("%d %s: read %v, want %v", tt.status, tt.body, ok, tt.reads)
		}
		var p fastjson.Parser
		whole := readAnswer(&p, tt.status, []byte(tt.body))
		if ok && (got.status != whole.status || got.final != whole.final || got.outcome != whole.outcome) {
			t.Errorf("%d %s: %+v, but read whole %+v", tt.status, tt.body, got, whole)
		}
	}
}
