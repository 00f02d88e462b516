package main

import (
	"errors"
	"net/http"

	"authswitch/payment"
	"authswitch/people"
)

// peopleDoor is where operators are made and removed: whoever holds the node's
// operator.token says who they are, under a name of their own.
type peopleDoor struct{ book *people.Book }

// personView is an operator as tools show one.
type personView struct {
	Name   string            `json:"name"`
	Status string            `json:"status"` // active or removed
	Secret string            `json:"secret,omitempty"`
	Events []personEventView `json:"events,omitempty"`
}

type personEventView struct {
	What   string `json:"what"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	At     string `json:"at"`
}

func (d peopleDoor) register(mux *http.ServeMux, guard func(func(*http.Request, *operation) (any, *failure)) http.HandlerFunc) {
	mux.HandleFunc("GET /operate/operators", guard(d.list))
	mux.HandleFunc("POST /operate/operators/{name}/add", guard(d.add))
	mux.HandleFunc("POST /operate/operators/{name}/remove", guard(d.remove))
}

func (d peopleDoor) list(*http.Request, *operation) (any, *failure) {
	all, err := d.book.List()
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "%s", err)
	}
	views := make([]personView, len(all))
	for i := range all {
		views[i] = viewOfPerson(&all[i])
	}
	return views, nil
}

func viewOfPerson(p *payment.Person) personView {
	v := personView{Name: p.Name, Status: "active"}
	if p.Removed {
		v.Status = "removed"
	}
	for _, e := range p.Events {
		what := "added"
		if e.Removed {
			what = "removed"
		}
		v.Events = append(v.Events, personEventView{What: what, By: e.By, Reason: e.Reason, At: instantText(e.At)})
	}
	return v
}

func (d peopleDoor) add(r *http.Request, b *operation) (any, *failure) {
	secret, err := d.book.Add(r.PathValue("name"), b.Operator, b.Reason)
	if err != nil {
		return nil, failedPerson(err)
	}
	return personView{Name: r.PathValue("name"), Status: "active", Secret: secret}, nil
}

func (d peopleDoor) remove(r *http.Request, b *operation) (any, *failure) {
	if err := d.book.Remove(r.PathValue("name"), b.Operator, b.Reason); err != nil {
		return nil, failedPerson(err)
	}
	return personView{Name: r.PathValue("name"), Status: "removed"}, nil
}

func failedPerson(err error) *failure {
	switch {
	case errors.Is(err, people.ErrName):
		return refuse(http.StatusBadRequest, "%s", err)
	case errors.Is(err, payment.ErrPersonKnown):
		return refuse(http.StatusConflict, "%s; remove it first to give out another credential", err)
	case errors.Is(err, payment.ErrNotFound):
		return refuse(http.StatusNotFound, "there is no operator of that name")
	}
	return refuse(http.StatusServiceUnavailable, "%s; list the operators before you ask again", err)
}
