package main

import (
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/store"
)

// shed takes the node out of rotation: /ready says no, so that a balancer sends
// new connections elsewhere; every answer closes its connection, so that
// keep-alive clients follow; and leadership goes to another member. What still
// arrives is served. It returns at once.
func (n *node) shed(who string) {
	n.shedBy.Store(&who)
	n.door.CloseAfterAnswers(true)
	if err := n.store.Transfer(""); err != nil && !errors.Is(err, store.ErrNotLeader) {
		n.log.Info("leadership stays here", "error", err) // alone, or nobody has caught up
	}
}

// resume ends shed.
func (n *node) resume() {
	n.shedBy.Store(nil)
	n.door.CloseAfterAnswers(false)
}

// leaveRotation is the first step of a stop that has time: as long as the
// configuration says the node is not ready and still serves. Its error is of a
// part that cannot go on meanwhile.
func (n *node) leaveRotation() error {
	if n.cfg.Node.StopAfter <= 0 {
		return nil
	}
	n.log.Info("out of rotation before the stop", "for", n.cfg.Node.StopAfter)
	n.shed("SIGTERM")
	select {
	case <-time.After(n.cfg.Node.StopAfter):
		return nil
	case err := <-n.failed:
		n.log.Error("stopping at once: a part cannot go on", "error", err)
		return err
	}
}

// rotationState is what the operators' door says of both.
type rotationState struct {
	OutOfRotation bool   `json:"out_of_rotation"`
	By            string `json:"by,omitempty"`
	InWork        int    `json:"requests_in_work"`
	Connections   int    `json:"connections"`
	Leader        bool   `json:"leader"`
}

func (n *node) rotation() rotationState {
	s := rotationState{InWork: n.door.InWork(), Connections: n.door.Connections(), Leader: n.store.Leads()}
	if by := n.shedBy.Load(); by != nil {
		s.OutOfRotation, s.By = true, *by
	}
	return s
}

// rotationDoor is the operators' part of it.
type rotationDoor struct{ node *node }

func (d rotationDoor) register(mux *http.ServeMux, guard func(func(*http.Request, *operation) (any, *failure)) http.HandlerFunc) {
	mux.HandleFunc("GET /operate/rotation", guard(func(*http.Request, *operation) (any, *failure) { return d.node.rotation(), nil }))
	mux.HandleFunc("POST /operate/rotation/{action}", guard(func(r *http.Request, b *operation) (any, *failure) {
		switch r.PathValue("action") {
		case "drain":
			d.node.shed(b.Operator)
		case "resume":
			d.node.resume()
		default:
			return nil, refuse(http.StatusNotFound, "there are drain and resume")
		}
		return d.node.rotation(), nil
	}))
}

// nodeCommand takes a node out of rotation before it is stopped, and back.
func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Take a node out of rotation before it is stopped, and back"}
	c.AddCommand(
		rotationCommand("drain", "Be not ready, close connections after their answers, hand leadership over; wait until no request is in work", time.Minute),
		rotationCommand("resume", "End a drain", 0),
	)
	return c
}

func rotationCommand(action, short string, wait time.Duration) *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: action, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s rotationState
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/rotation/"+action, &s); err != nil {
				return err
			}
			for deadline := time.Now().Add(wait); action == "drain" && s.InWork > 0; {
				if time.Now().After(deadline) {
					return fmt.Errorf("%d requests are still in work after %s; the node is out of rotation", s.InWork, wait)
				}
				select {
				case <-time.After(linkPoll):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
				if err := o.ask(cmd.Context(), http.MethodGet, "/operate/rotation", &s); err != nil {
					return err
				}
			}
			if o.asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "OUT OF ROTATION\tREQUESTS\tCONNECTIONS\tLEADER")
			fmt.Fprintf(t, "%v\t%d\t%d\t%v\n", s.OutOfRotation, s.InWork, s.Connections, s.Leader)
			return t.Flush()
		},
	}
	operatorFlags(c, &o)
	if wait > 0 {
		c.Flags().DurationVar(&wait, "wait", wait, "how long to wait until no request is in work")
	}
	return c
}
