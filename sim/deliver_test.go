package sim

import (
	"fmt"
	"io"
	"testing"
)

// Each delivery that is approved and yet must not be taken for an approval.
func TestFaultyDeliveries(t *testing.T) {
	both(t, func(t *testing.T, codec Codec) {
		t.Run("silence", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1068))
			b.quiet()
			b.wantDecisions("000001 silent  1068")
		})
		t.Run("late", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1069))
			b.quiet() // others are answered meanwhile
			b.wantDecisions("000001 approved 00 1069")
			if m := b.receive(); m[11] != "000001" || m[39] != "00" {
				t.Errorf("late answer %v", m)
			}
		})
		t.Run("twice", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1070))
			first, second := b.frame(), b.frame()
			if string(first) != string(second) || parse87(t, first)[39] != "00" {
				t.Errorf("answers %q and %q", first, second)
			}
			b.quiet()
		})
		t.Run("wrong STAN", func(t *testing.T) {
			b := start(t, withCodec(codec))
			if m := b.ask(authorization("999999", 1071)); m[11] != "000000" || m[39] != "00" {
				t.Errorf("STAN %s", m[11])
			}
		})
		t.Run("garbage", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1072))
			if m, err := take87(b.frame()); err == nil {
				t.Errorf("garbage can be read: %v", m)
			}
			b.quiet()
			b.wantDecisions("000001 approved 00 1072")
		})
		t.Run("half a frame", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1073))
			rest, _ := io.ReadAll(b.conn)
			if len(rest) < 20 || int(rest[0])<<8|int(rest[1]) <= len(rest)-2 {
				t.Errorf("%d bytes are no half of a frame", len(rest))
			}
			b.conn = b.dial()
			b.quiet()
			b.wantDecisions("000001 approved 00 1073")
		})
		t.Run("drop leaves what came behind it undecided", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1074), authorization("000002", 1000))
			b.closed()
			b.wantDecisions("000001 approved 00 1074")
		})
		t.Run("drop", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1074))
			b.closed()
			b.quiet()
			b.wantDecisions("000001 approved 00 1074")
		})
		t.Run("wrong amount", func(t *testing.T) {
			b := start(t, withCodec(codec))
			if m := b.ask(authorization("000001", 1075)); m[4] != "000000001175" || m[39] != "00" {
				t.Errorf("amount %s", m[4])
			}
			b.wantDecisions("000001 approved 00 1075")
		})
		t.Run("wrong terminal", func(t *testing.T) {
			b := start(t, withCodec(codec))
			if m := b.ask(authorization("000001", 1076)); m[41] == "TERM0001" || len(m[41]) != 8 || m[11] != "000001" {
				t.Errorf("terminal %q", m[41])
			}
		})
		t.Run("lying bitmap", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1078))
			frame := b.frame()
			if m, err := take87(frame); err == nil {
				t.Errorf("it can be read: %v", m)
			}
			frame[4+4] ^= 1 // the bit of DE 40
			if m := parse87(t, frame); m[39] != "00" {
				t.Errorf("with the bit put right: %v", m)
			}
			b.quiet()
		})
		t.Run("reject", func(t *testing.T) {
			b := start(t, withCodec(codec))
			if m := b.ask(authorization("000001", 1079)); m[0] != "0620" || m[11] != "000001" || m[39] != "30" {
				t.Errorf("reject %v", m)
			}
			b.wantDecisions("000001 declined 30 1079")
		})
		t.Run("decline then approve", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1080))
			if first, second := b.receive(), b.receive(); first[39] != "05" || second[39] != "00" || first[38] != "" || second[38] == "" {
				t.Errorf("answers %v and %v", first, second)
			}
			b.wantDecisions("000001 declined 05 1080; 000001 approved 00 1080")
		})
		t.Run("wrong message type", func(t *testing.T) {
			b := start(t, withCodec(codec))
			if m := b.ask(authorization("000001", 1081)); m[0] != "0210" || m[11] != "000001" {
				t.Errorf("answer %v", m)
			}
		})
		t.Run("after its reversal", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1083))
			b.quiet()
			b.send(reversal("0420", "000001", 1083))
			if first, second := b.receive(), b.receive(); first[0] != "0430" || first[39] != "00" || second[0] != "0110" || second[39] != "00" {
				t.Errorf("answers %v and %v", first, second)
			}
			b.wantDecisions("000001 approved 00 1083; 000001 reversed 00 1083")
		})
		t.Run("zero length", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1089))
			if f := b.frame(); len(f) != 0 {
				t.Errorf("%d bytes", len(f))
			}
			b.quiet()
		})
		t.Run("of the largest length", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1097))
			if f := b.frame(); len(f) != 4096 {
				t.Errorf("%d bytes", len(f))
			}
			b.quiet()
		})
		t.Run("beyond the largest length", func(t *testing.T) {
			b := start(t, withCodec(codec))
			b.send(authorization("000001", 1090))
			all, _ := io.ReadAll(b.conn)
			if len(all) < 2 || int(all[0])<<8|int(all[1]) != 4097 {
				t.Errorf("prefix % x", all[:min(2, len(all))])
			}
			b.conn = b.dial()
			b.quiet()
		})
	})
}

// A byte at a time is still the right answer; the reader sees it grow. A reader
// that the machine keeps waiting finds it whole: then it asks again.
func TestByteAtATime(t *testing.T) {
	b := start(t, nil)
	for n := range 50 {
		b.send(authorization(fmt.Sprintf("%06d", n+1), 1077))
		most := 0
		var got []byte
		for len(got) < 2 || len(got) < 2+int(got[0])<<8+int(got[1]) {
			piece := make([]byte, 4096)
			n, err := b.conn.Read(piece)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, n)
			got = append(got, piece[:n]...)
		}
		if m := parse87(t, got[2:]); m[39] != "00" {
			t.Errorf("answer %v", m)
		}
		if most < len(got) {
			return
		}
	}
	t.Error("it came in one piece, fifty times")
}

func TestKeepAlive(t *testing.T) {
	empty := []byte{0, 0, 0, 0}
	s := newSwitchSide(t, "visa", CodecFast)
	if _, err := s.conn.Write(empty); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(s.conn, got); err != nil || string(got) != string(empty) {
		t.Fatalf("% x, %v", got, err)
	}
	// One of the simulator's own is not sent back twice.
	a, i := s.payment(1, 1089)
	frame, err := s.dialect.EncodeAuthorization(nil, a, i)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.Write(s.framing.end(append(s.framing.begin(nil), frame...), 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s.conn, got); err != nil || string(got) != string(empty) {
		t.Fatalf("% x, %v", got, err)
	}
	if _, err := s.conn.Write(empty); err != nil {
		t.Fatal(err)
	}
	s.signsOnAndOff() // would meet an empty frame first
}
