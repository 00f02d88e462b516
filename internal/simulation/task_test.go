package simulation_test

import (
	"iter"
	"time"
)

// killed unwinds a task whose node crashed.
type killed struct{}

// task is a straight line of code that waits for events: a coroutine, resumed by
// the event heap on the heap's own thread.
type task struct {
	n     *node // nil: nobody's crash ends it
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	over  bool
	// round counts the waits, so that what wakes an earlier one wakes nothing.
	round uint64
}

// spawn runs f until its first wait, in an event of its own.
func (w *world) spawn(n *node, f func(t *task)) *task {
	t := &task{n: n}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			t.over = true
			if p := recover(); p != nil {
				if _, ok := p.(killed); !ok {
					panic(p)
				}
			}
		}()
		t.yield = yield
		f(t)
	})
	if n != nil {
		n.tasks = append(n.tasks, t)
	}
	w.after(0, evTask, func() { w.run(t) })
	return t
}

func (w *world) run(t *task) {
	if !t.over {
		w.current = t
		t.next()
		w.current = nil
	}
}

// park waits for wake of this round.
func (t *task) park() {
	if !t.yield(struct{}{}) {
		panic(killed{})
	}
}

// waker is called to end the wait that comes next; once.
func (w *world) waker(t *task) func() {
	t.round++
	round := t.round
	return func() {
		w.after(0, evTask, func() {
			if t.round == round {
				t.round++
				w.run(t)
			}
		})
	}
}

func (w *world) sleep(t *task, d time.Duration) {
	wake := w.waker(t)
	w.after(d, evTask, wake)
	t.park()
}
