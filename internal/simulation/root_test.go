package simulation_test

// plainRoot wraps data keys in nothing: these keys protect nothing.
type plainRoot struct{}

func (plainRoot) Wrap(key []byte) ([]byte, error) { return append([]byte(nil), key...), nil }

func (plainRoot) Unwrap(wrapped []byte) ([]byte, error) { return append([]byte(nil), wrapped...), nil }
