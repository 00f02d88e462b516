package payment

import "fmt"

// Elsewhere says that a request needs a link which this node does not have now
// and another one has: nothing was done here, and the whole request may be
// handed there. It is ErrUnavailable for whoever cannot hand anything on.
type Elsewhere struct{ Link LinkName }

// Error names the link.
func (e *Elsewhere) Error() string {
	return fmt.Sprintf("link %s is up at another node and not here", e.Link)
}

// Unwrap makes it ErrUnavailable.
func (e *Elsewhere) Unwrap() error { return ErrUnavailable }
