package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// TestConversations plays the scripts of testdata/conversations against the
// core. A script is commands, one a line; under each stands, indented, what
// left the wire, what was ordered of the shell, and which request was
// completed how. -rewrite writes what comes out; a person reads it.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newScript(t)
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "    ") {
					continue
				}
				line = strings.TrimRight(line, "\n")
				s.out.WriteString(line + "\n")
				if line != "" && line[0] != '#' {
					s.play(line)
				}
			}
			golden(t, file, s.out.String())
		})
	}
}

// plainCodec packs network messages as text that people can read.
type plainCodec struct{}

func (plainCodec) request(dst []byte, n payment.NetworkRequest) ([]byte, error) {
	return fmt.Appendf(dst, "0800 %s stan=%s", functionNames[n.Function], n.STAN), nil
}

func (plainCodec) answer(dst []byte, _ *iso8583.Message, n payment.NetworkMessage) ([]byte, error) {
	return fmt.Appendf(dst, "0810 %s stan=%s", functionNames[n.Function], n.STAN), nil
}

type script struct {
	t     *testing.T
	core  *core
	now   moment
	stuck bool // the writer does not take
	slots map[string]*payment.Slot
	place map[string]*place
	names []string
	out   strings.Builder
}

func newScript(t *testing.T) *script {
	s := &script{t: t, now: moment(time.Second), slots: map[string]*payment.Slot{}, place: map[string]*place{}}
	s.configure(Config{})
	return s
}

func (s *script) configure(c Config) {
	f, err := newFramer(iso8583.Framing{LengthEncoding: iso8583.LengthBinary, LengthBytes: 2, MaxMessage: 4096, Heartbeat: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.core = newCore(c.WithDefaults(), rule{transmitted: true, terminal: true}, f, plainCodec{},
		capabilities{signOn: true, signOff: true, echo: true}, func() uint64 { return 0 })
	s.core.numbers.grant(payment.Numbers{FirstSTAN: 1, LastSTAN: 500, FirstRRN: 1, LastRRN: 500})
}

// wall is the wall clock: noon of a day, and as far on as the steady clock.
func (s *script) wall() payment.Instant {
	return payment.Instant(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()) + payment.Instant(s.now)
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, "    "+format+"\n", args...) }

// play runs one command and shows what came of it.
func (s *script) play(line string) {
	words := strings.Fields(line)
	arguments := map[string]string{}
	var plain []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			arguments[k] = v
		} else {
			plain = append(plain, w)
		}
	}
	s.core.wall = s.wall()
	s.command(words[0], plain, arguments)
	s.show()
}

// first is a command's first plain word.
func first(plain []string) string {
	if len(plain) == 0 {
		return ""
	}
	return plain[0]
}

func (s *script) command(verb string, plain []string, arguments map[string]string) {
	st := s.core.stations[number([]byte(arguments["connection"]), 2)]
	switch verb {
	case "config":
		s.configure(Config{
			Window: int(number([]byte(arguments["window"]), 4)), ReversalWindow: int(number([]byte(arguments["reversals"]), 4)),
			Connections: int(number([]byte(arguments["connections"]), 4)), LateMemory: int(number([]byte(arguments["memory"]), 4)),
			AnswerTimeout: time.Duration(number([]byte(arguments["timer"]), 4)) * time.Second,
		})
	case "enable", "disable", "dialed", "dial-failed":
		s.core.event(s.now, st, map[string]event{
			"enable": eventEnabled, "disable": eventDisabled, "dialed": eventDialed, "dial-failed": eventDialFailed,
		}[verb])
		if verb == "dialed" {
			st.life++
		}
	case "hold":
		s.core.setHold(s.now, map[string]Hold{"none": NoHold, "drained": HoldDrained, "signed-off": HoldSignedOff}[first(plain)])
	case "sign-on":
		s.core.signOn(s.now)
	case "disconnect":
		s.core.lost(s.now, st)
	case "accept", "refuse":
		n := payment.NetworkMessage{Response: true, Function: function(first(plain)), Accepted: verb == "accept", Code: payment.MakeResponseCode([]byte("05"))}
		n.STAN = st.asked[n.Function]
		if arguments["stan"] != "" {
			n.STAN = payment.STAN(number([]byte(arguments["stan"]), 6))
		}
		s.core.network(s.now, st, n, nil)
	case "peer":
		s.core.network(s.now, st, payment.NetworkMessage{Function: function(first(plain)), STAN: 777}, nil)
	case "lease":
		s.core.numbers.drop()
		s.core.numbers.grant(payment.Numbers{
			FirstSTAN: payment.STAN(number([]byte(plain[0]), 6)), LastSTAN: payment.STAN(number([]byte(plain[1]), 6)), LastRRN: 999,
		})
	case "heartbeat":
		s.core.heartbeat(s.now, st)
	case "writer":
		s.stuck = first(plain) == "stuck"
	case "tick":
		s.tick(first(plain))
	default:
		s.traffic(st, verb, plain, arguments)
	}
}

func function(name string) payment.NetworkFunction {
	for f, n := range functionNames {
		if n == name {
			return f
		}
	}
	return payment.NetworkOther
}

// traffic are the commands about requests.
func (s *script) traffic(st *station, verb string, plain []string, arguments map[string]string) {
	name := first(plain)
	switch verb {
	case "reserve":
		slot := new(payment.Slot)
		s.reserved(name, slot, s.core.reserve(s.now, s.wall(), slot, payment.ID{name[0]}, 1))
	case "reserve-owed":
		slot := new(payment.Slot)
		o := &payment.Owed{ID: payment.ID{first(plain[1:])[0]}, Seq: 9, STAN: payment.STAN(number([]byte(arguments["stan"]), 6))}
		s.reserved(name, slot, s.core.reserveOwed(s.now, s.wall(), slot, o, s.rrn(arguments["rrn"])))
	case "send":
		s.send(name)
	case "release":
		if p := s.core.placeOf(s.slots[name]); p != nil {
			s.core.release(p, s.now)
		} else {
			s.say("%s: its place is gone", name)
		}
		delete(s.place, name)
	case "answer", "garbled-answer", "reject":
		s.answer(st, verb, name, arguments)
	default:
		s.t.Fatalf("no such command: %s", verb)
	}
}

// rrn is the reference number of an earlier request, by name, or as written.
func (s *script) rrn(of string) payment.RRN {
	if slot := s.slots[of]; slot != nil {
		return slot.RRN
	}
	var r payment.RRN
	copy(r[:], of)
	return r
}

func (s *script) reserved(name string, slot *payment.Slot, err error) {
	if err != nil {
		s.say("refused: %v", err)
		return
	}
	s.slots[name], s.place[name] = slot, slot.Place.(*place)
	s.names = append(s.names, name)
	s.say("%s: stan=%s rrn=%s transmitted=%s on connection %d", name, slot.STAN, slot.RRN, slot.Transmitted, s.place[name].connection)
}

func (s *script) send(name string) {
	slot, p := s.slots[name], s.core.placeOf(s.slots[name])
	if p == nil {
		s.say("%s: its place is gone", name)
		delete(s.place, name)
		return
	}
	i := &payment.Intent{MTI: 0x0100, Terms: payment.Terms{Terminal: "TERM01", Acquirer: "970001"}}
	mti := "0100"
	if p.key.owed {
		mti = "0420"
	}
	frame := fmt.Appendf(nil, "%s %s stan=%s", mti, name, slot.STAN)
	if _, err := s.core.send(p, request{slot: slot, intent: i, frame: frame, answer: new(iso8583.Message)}, s.now, s.wall()); err != nil {
		s.say("%s: %v", name, err)
		s.core.release(p, s.now)
		delete(s.place, name)
	}
}

// answer plays an answer to a request, with whatever the script changes in it.
func (s *script) answer(st *station, verb, name string, arguments map[string]string) {
	slot := s.slots[name]
	e := echoed{mti: 0x0110, stan: slot.STAN, transmitted: slot.Transmitted, rrn: []byte(slot.RRN.String()), terminal: []byte("TERM01")}
	for k, v := range arguments {
		switch k {
		case "mti":
			e.mti, _ = iso8583.ParseMTI(v)
		case "stan":
			e.stan = payment.STAN(number([]byte(v), 6))
		case "transmitted":
			e.transmitted = payment.Transmitted(number([]byte(v), 10))
		case "rrn":
			e.rrn = given(v)
		case "terminal":
			e.terminal = given(v)
		case "code":
			e.code = payment.MakeResponseCode([]byte(v))
		}
	}
	if verb == "reject" {
		if !s.core.rejected(s.now, st, &e) {
			s.say("heard: a reject of nothing")
		}
		return
	}
	switch heard, g, _ := s.core.answered(s.now, st, &e, new(iso8583.Message), verb == "garbled-answer"); heard {
	case heardLate:
		s.say("heard: late, of payment %c, owed %t", g.id[0], g.key.owed)
	case heardUnmatched:
		s.say("heard: unmatched; %s", s.core.table.explain(&e, s.core.rule))
	}
}

func given(v string) []byte {
	if v == "none" {
		return nil
	}
	return []byte(v)
}

// tick lets time pass, firing at every moment the wheel names.
func (s *script) tick(text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	end := s.now + moment(d)
	for {
		next, ok := s.core.wheel.next()
		if !ok || next > end {
			break
		}
		s.now = next
		s.core.tick(s.now, s.wall())
		s.show()
	}
	s.now = end
	s.core.tick(s.now, s.wall())
}

// show writes what happened since the last look.
func (s *script) show() {
	for _, o := range s.core.orders {
		s.say("order %d: %s%s", o.station, effectNames[o.effect.kind], reason(o.effect.reason))
	}
	s.core.orders = s.core.orders[:0]
	for _, st := range s.core.stations {
		if s.stuck {
			break
		}
		if batch, frames := s.core.take(st, s.now, s.wall()); frames > 0 {
			s.say("left %d%s: %s", st.index, s.clock(), strings.Join(s.frames(batch), " + "))
			st.giveBack(batch)
		}
	}
	for _, name := range s.names {
		p := s.place[name]
		if p == nil || p.state != placeDone {
			continue
		}
		<-p.done
		s.say("done %s%s: %s", name, s.clock(), cause(p.err))
		s.core.table.giveBack(p)
		delete(s.place, name)
	}
}

func (s *script) clock() string { return fmt.Sprintf(" at %s", time.Duration(s.now)-time.Second) }

func reason(r string) string {
	if r == "" {
		return ""
	}
	return " (" + r + ")"
}

// cause is an outcome in one line, and checks that it says what the caller
// decides by.
func cause(err error) string {
	if err == nil {
		return "answered"
	}
	if errors.Is(err, payment.ErrNotSent) == errors.Is(err, payment.ErrUnknownOutcome) {
		return "BROKEN: " + err.Error()
	}
	return err.Error()
}

func (s *script) frames(batch []byte) []string {
	var all []string
	for len(batch) > 0 {
		payload, size, err := s.core.framer.cut(batch)
		if err != nil || size == 0 {
			s.t.Fatalf("what left is not frames: %q, %v", batch, err)
		}
		if payload == nil {
			payload = []byte("heartbeat")
		}
		all = append(all, string(payload))
		batch = batch[size:]
	}
	return all
}
