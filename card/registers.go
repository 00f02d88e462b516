package card

// registersWide is what is copied through every vector register.
const registersWide = 256

var (
	nothing [registersWide]byte
	// howMuch is a variable, so that the copy is a call of the runtime's.
	howMuch = registersWide
)

// ClearRegisters overwrites what copies of card data left in this thread's vector
// registers. It is called where a card number was copied or taken apart, before
// the goroutine waits, and costs some 5 ns (BenchmarkClearRegisters).
//
// Nobody clears those registers, and what was copied last stays in them through
// all that other goroutines do on the thread, until something as long is copied.
// A signal that comes meanwhile, as the runtime's own do to take the processor
// from a goroutine, has the kernel save them in the thread's signal stack, where
// they stay until the next one: a frame with a card number was found there
// seconds after it had been wiped everywhere else. On amd64 a copy of 129 to 256
// bytes goes through X0 to X15; elsewhere the runtime copies through registers
// that all code uses.
func ClearRegisters() {
	var there [registersWide]byte
	copy(there[:howMuch], nothing[:howMuch])
}
