package iso8583

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"authswitch/payment"
)

// rows are the lines of a table in testdata, split at spaces; a failure names
// the line.
func rows(t *testing.T, name string) (lines [][]string, numbers []int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(raw), "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			lines, numbers = append(lines, strings.Fields(line)), append(numbers, i+1)
		}
	}
	return lines, numbers
}

func TestMTITable(t *testing.T) {
	classes := []string{"", "authorization", "financial", "file", "reversal", "reconciliation", "administrative", "fee", "network"}
	functions := []string{"request", "response", "advice"}
	lines, numbers := rows(t, "mti.txt")
	var seen []string
	for i, row := range lines {
		request, err := ParseMTI(row[0])
		if err != nil {
			t.Fatal(err)
		}
		repeat, answer := request.Repeat(), request.Response()
		if repeat.String() != row[1] || answer.String() != row[2] || repeat.Response() != answer || answer.Response() != answer ||
			repeat.Original() != request || !repeat.IsRepeat() || request.IsRepeat() || !answer.IsResponse() || request.IsResponse() {
			t.Errorf("mti.txt:%d: %s repeats as %s, is answered by %s", numbers[i], request, repeat, answer)
		}
		if classes[request.Class()] != row[3] || functions[request.Function()] != row[4] ||
			request.IsAdvice() != (row[4] == "advice") || request.IsRequest() != (row[4] == "request") {
			t.Errorf("mti.txt:%d: %s is of class %d, function %d", numbers[i], request, request.Class(), request.Function())
		}
		if d := load(t, row[5]); d.message(request) == nil || d.message(repeat) != d.message(request) {
			t.Errorf("mti.txt:%d: dialect %s does not describe %s", numbers[i], d.Name(), request)
		}
		seen = append(seen, row[0])
	}
	// The rows of the table in iso8583-behaviour §1.
	for want := range strings.FieldsSeq("0100 0120 0200 0220 0320 0400 0420 0500 0520 0600 0620 0800 0820") {
		if !slices.Contains(seen, want) {
			t.Errorf("mti.txt: no row for %s", want)
		}
	}
	for _, bad := range []string{"", "010", "01000", "01A0", "+100"} {
		if _, err := ParseMTI(bad); err == nil {
			t.Errorf("%q is taken for a message type", bad)
		}
	}
}

func TestResponseTable(t *testing.T) {
	lines, numbers := rows(t, "responses.txt")
	seen := map[string]bool{}
	for i, row := range lines {
		d := load(t, row[0])
		v := d.payments.verdict(payment.MakeResponseCode([]byte(row[1])), slices.Contains(row[3:], "zero_amount"))
		var want payment.Flags
		for _, word := range row[3:] {
			flag, ok := flagNames[word]
			if !ok && word != "zero_amount" {
				t.Fatalf("responses.txt:%d: %s", numbers[i], word)
			}
			want |= flag
		}
		if v.Action != actionNames[row[2]] || v.Flags != want {
			t.Errorf("responses.txt:%d: %s %s is action %d, flags %b, want %s %b", numbers[i], row[0], row[1], v.Action, v.Flags, row[2], want)
		}
		seen[row[1]] = true
	}
	// The codes of the table in iso8583-behaviour §7.
	for code := range strings.FieldsSeq("00 11 85 08 10 01 02 03 58 04 07 41 43 05 12 14 15 46 57 R0 R1 R3 13 30 54 55 82 N7 " +
		"51 59 61 62 75 78 86 93 N3 N4 19 1A 65 A1 81 06 22 96 90 91 92 98 68 94 21 25 63 88 89 95") {
		if !seen[code] {
			t.Errorf("responses.txt: no line for %s", code)
		}
	}
}

func TestReversalAnswers(t *testing.T) {
	d := load(t, "ascii87")
	for _, c := range []struct {
		code   string
		want   payment.AdviceVerdict
		repeat bool
	}{
		{"00", payment.AdviceAcknowledged, false},
		{"25", payment.AdviceNotFound, false},
		{"21", payment.AdviceNotFound, false},
		{"12", payment.AdviceNotFound, false},
		{"91", payment.AdviceRepeat, false},
		{"92", payment.AdviceRepeat, false},
		{"96", payment.AdviceRepeat, false},
		{"63", payment.AdviceRepeat, false},
		{"81", payment.AdviceRepeat, false},
		{"88", payment.AdviceRepeat, false},
		{"89", payment.AdviceRepeat, false},
		{"30", payment.AdviceExceptional, false},
		{"94", payment.AdviceExceptional, true},
		{"05", payment.AdviceExceptional, false},
		{"ZZ", payment.AdviceExceptional, false},
		{"", payment.AdviceRepeat, false},
	} {
		var b Builder
		b.Start(0x0430)
		b.SetUint(11, 18)
		if c.code != "" {
			b.SetString(39, c.code)
		}
		frame, err := d.Pack(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		var m Message
		if err := d.Unpack(&m, frame); err != nil {
			t.Fatal(err)
		}
		var r payment.Response
		err = d.DecodeReversal(&m, &r)
		if (err != nil) != (c.code == "") || r.Advice != c.want || d.AcknowledgesRepeat(&r) != c.repeat {
			t.Errorf("%q: advice %d, repeat %v, error %v", c.code, r.Advice, d.AcknowledgesRepeat(&r), err)
		}
	}
}
