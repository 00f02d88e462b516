package journal

import (
	"fmt"

	"authswitch/payment"
)

// configPerson is the kind of an operator's record in tableConfig.
const configPerson = 'o'

// maxPersonHash is more than a credential's hash in PHC form.
const maxPersonHash = 512

func appendPersonKey(b []byte, name string) []byte {
	return putText(append(b, tableConfig, configPerson), name)
}

func (m *Machine) person(name string, p *payment.Person) bool {
	m.keyA = appendPersonKey(m.keyA[:0], name)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return false
	}
	*p = payment.Person{}
	c := cursor{b: value}
	readPerson(&c, p)
	m.view.fail(c.end())
	return true
}

// hasPerson says whether there is an operator of that name now.
func (m *Machine) hasPerson(name string) bool {
	var p payment.Person
	return m.person(name, &p) && !p.Removed
}

// CheckPersonChange says whether a change of an operator can be proposed.
func CheckPersonChange(x *payment.PersonChange) error {
	switch {
	case x.Name == "" || len(x.Name) > maxText:
		return fmt.Errorf("%w: operator without name", ErrInvalid)
	case x.By == "" || len(x.By) > maxText || len(x.Reason) > maxText:
		return fmt.Errorf("%w: a change by nobody, or whose reason is too long", ErrInvalid)
	case len(x.Hash) > maxPersonHash:
		return fmt.Errorf("%w: hash of %d bytes", ErrInvalid, len(x.Hash))
	}
	return nil
}

// AppendPersonChange writes a KindPerson command.
func AppendPersonChange(b []byte, x *payment.PersonChange) []byte {
	b = putText(append(b, commandVersion), x.Name)
	b = putLong(b, x.Hash)
	return putText(putText(b, x.By), x.Reason)
}

// applyPerson adds or removes an operator. Who did it, and why, stays with the
// name for ever: one that is added again is known to have been removed.
func (m *Machine) applyPerson(c *cursor, r *Result) error {
	c.version(commandVersion)
	x := payment.PersonChange{Name: string(c.text()), Hash: owned(c.long()), By: string(c.text()), Reason: string(c.text())}
	if err := c.end(); err != nil {
		return err
	}
	p := payment.Person{Name: x.Name, Removed: true}
	m.person(x.Name, &p)
	remove := len(x.Hash) == 0
	switch {
	case remove && p.Removed:
		r.Err = payment.ErrNotFound
		return nil
	case !remove && !p.Removed && string(p.Hash) == string(x.Hash): // proposed twice
		r.Person = &p
		return nil
	case !remove && !p.Removed:
		r.Err = payment.ErrPersonKnown
		return nil
	}
	p.Removed, p.Hash = remove, x.Hash
	p.Events = append(p.Events, payment.PersonEvent{Removed: remove, By: x.By, Reason: x.Reason, At: m.now})
	if n := len(p.Events); n > payment.MaxPersonEvents {
		p.Events = append(p.Events[:1], p.Events[n-payment.MaxPersonEvents+1:]...)
	}
	m.keyA = appendPersonKey(m.keyA[:0], p.Name)
	m.value = appendPerson(m.value[:0], &p)
	m.view.writes.set(m.keyA, m.value)
	r.Person = &p
	return nil
}

// ReadPerson reads an operator, one that was removed too.
func ReadPerson(r Reader, name string) (payment.Person, error) {
	var p payment.Person
	value, found, err := r.Get(nil, appendPersonKey(nil, name))
	switch {
	case err != nil:
		return p, err
	case !found:
		return p, payment.ErrNotFound
	}
	c := cursor{b: value}
	readPerson(&c, &p)
	return p, c.end()
}

// ReadPeople reads all operators by name, those that were removed too.
func ReadPeople(r Reader) (people []payment.Person, err error) {
	from := []byte{tableConfig, configPerson}
	var fault error
	err = r.Scan(from, after(nil, from), false, func(_, value []byte) bool {
		var p payment.Person
		c := cursor{b: value}
		readPerson(&c, &p)
		fault = c.end()
		people = append(people, p)
		return fault == nil
	})
	if err == nil {
		err = fault
	}
	return people, err
}
