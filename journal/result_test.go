package journal

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authswitch/payment"
)

// fillAny sets every field that reflection can reach to something that is not
// zero, so that a field nobody encodes is seen.
func fillAny(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				fillAny(f, r)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fillAny(v.Index(i), r)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fillAny(v.Index(i), r)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1 + r.Int64N(100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + r.Uint64N(100))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAny(v.Elem(), r)
	}
}

// answered is what a kind's result carries: the rest stays zero. A kind that is
// not here carries all.
func answered(r Result) Result {
	kept := Result{Kind: r.Kind}
	switch r.Kind {
	case KindOpen:
		kept.Opened = r.Opened
	case KindNext, KindSettle:
		kept.Settled = r.Settled
	case KindOperate, KindCredit:
		return Result{Kind: r.Kind, Operated: r.Operated}
	case KindClaim:
		kept.Owed = r.Owed
	case KindAcknowledge, KindLate:
		kept.State = r.State
	default:
		return r
	}
	return kept
}

func TestResultsTravelWhole(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for kind := range Kind(255) {
		if kind.String() == "unknown" {
			continue
		}
		for _, fault := range append(faults(), nil, errors.New("something else")) {
			var r Result
			fillAny(reflect.ValueOf(&r).Elem(), source)
			r.Kind = kind
			r = answered(r)
			r.Operated.Operation.Response.Chip = "" // a capture, a refund: no chip waits for their answer
			r.Err = fault
			b, err := AppendResult(nil, &r)
			if err != nil {
				t.Fatal(err)
			}
			var got Result
			if err := ReadResult(b, &got); err != nil {
				t.Fatalf("%s with %v: %v", kind, fault, err)
			}
			if !errors.Is(got.Err, fault) && got.Err.Error() != fault.Error() {
				t.Errorf("%s: fault %v became %v", kind, fault, got.Err)
			}
			got.Err, r.Err = nil, nil
			if d := cmp.Diff(r, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s: %s", kind, d)
			}
		}
	}
}

func FuzzReadResult(f *testing.F) {
	for _, kind := range []Kind{KindOpen, KindSettle, KindClaim, KindLease, KindAcknowledge} {
		b, err := AppendResult(nil, &Result{Kind: kind, Err: payment.ErrBusy})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Result
		if ReadResult(b, &r) != nil || len(b) > 2 && b[2] == formGob {
			return
		}
		_, err := AppendResult(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestSessionBeginsOnce(t *testing.T) {
	m := newBench(t)
	process, other := [16]byte{1}, [16]byte{2}
	begin := func(p [16]byte, attempt uint32) Result { return m.do(KindSession, AppendBegin(nil, "n1", p, attempt)) }
	first := begin(process, 1)
	if first.Session == 0 {
		t.Fatalf("%+v", first)
	}
	if again := begin(process, 1); again.Session != first.Session || again.Err != nil {
		t.Errorf("proposed twice: %+v", again)
	}
	second := begin(process, 2)
	if second.Session == first.Session {
		t.Error("a second session is the first")
	}
	if stray := begin(process, 1); stray.Err == nil {
		t.Errorf("a stray of the first: %+v", stray)
	}
	if m.do(KindEndSession, AppendEndSession(nil, second.Session)); m.m.alive(second.Session) {
		t.Error("ended and alive")
	}
	if stray := begin(process, 2); stray.Err == nil {
		t.Errorf("a stray of an ended one: %+v", stray)
	}
	m.restart()
	if stray := begin(process, 2); stray.Err == nil {
		t.Errorf("a stray after a restart: %+v", stray)
	}
	if fresh := begin(other, 1); fresh.Err != nil || !m.m.alive(fresh.Session) {
		t.Errorf("another process: %+v", fresh)
	}
}
