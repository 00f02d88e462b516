package card

import "testing"

func BenchmarkClearRegisters(b *testing.B) {
	for b.Loop() {
		ClearRegisters()
	}
}
