package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// movementOptions are the flags of capture, refund and void.
type movementOptions struct {
	client
	amount   int64
	currency string
	final    bool
	reason   string
	request  string
}

// body is what the API is told; an amount of zero is all that remains.
func (o *movementOptions) body() map[string]any {
	body := map[string]any{}
	if o.amount != 0 {
		body["amount"] = money{Value: o.amount, Currency: o.currency}
	}
	return body
}

func (o *movementOptions) flags(c *cobra.Command, amount bool) {
	clientFlags(c, &o.client)
	f := c.Flags()
	if amount {
		f.Int64Var(&o.amount, "amount", 0, "amount in minor units (default: all that remains)")
		f.StringVar(&o.currency, "currency", "EUR", "ISO 4217 code")
	}
	f.StringVar(&o.request, "request", "", "idempotency key, to ask for the same again (default: a new one)")
}

func captureCommand() *cobra.Command {
	var o movementOptions
	c := &cobra.Command{
		Use:     "capture AUTHORIZATION",
		Short:   "Take what was authorized, or a part of it",
		Example: `  authswitch capture auth_0199… --amount 600 --key @api.key`,
		Args:    oneID("auth_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := o.body()
			if o.final {
				body["final"] = true
			}
			return o.move(cmd, "/v1/authorizations/"+args[0]+"/captures", body)
		},
	}
	o.flags(c, true)
	c.Flags().BoolVar(&o.final, "final", false, "no other capture follows: what remains is released")
	return c
}

func refundCommand() *cobra.Command {
	var o movementOptions
	c := &cobra.Command{
		Use:     "refund CAPTURE",
		Short:   "Give captured money back, or a part of it",
		Example: `  authswitch refund cap_0199… --amount 250 --reason "wrong parcel" --key @api.key`,
		Args:    oneID("cap_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := o.body()
			body["capture"] = args[0]
			if o.reason != "" {
				body["reason"] = o.reason
			}
			return o.move(cmd, "/v1/refunds", body)
		},
	}
	o.flags(c, true)
	c.Flags().StringVar(&o.reason, "reason", "", "the merchant's own reason, kept with the refund")
	return c
}

func voidCommand() *cobra.Command {
	var o movementOptions
	c := &cobra.Command{
		Use:     "void CAPTURE",
		Short:   "Undo a capture before its settlement",
		Example: `  authswitch void cap_0199… --key @api.key`,
		Args:    oneID("cap_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.move(cmd, "/v1/captures/"+args[0]+"/reversals", map[string]any{})
		},
	}
	o.flags(c, false)
	return c
}

func correctCommand() *cobra.Command {
	var o movementOptions
	c := &cobra.Command{
		Use:     "correct AUTHORIZATION",
		Short:   "Change what a captured payment comes to: the difference is charged to its stored card, or refunded",
		Example: `  authswitch correct auth_0199… --amount 1450 --reason "10 kg" --key @api.key`,
		Args:    oneID("auth_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := o.body()
			if o.reason != "" {
				body["reason"] = o.reason
			}
			return o.move(cmd, "/v1/authorizations/"+args[0]+"/corrections", body)
		},
	}
	o.flags(c, true)
	c.Flags().Lookup("amount").Usage = "the new total, in minor units"
	c.Flags().StringVar(&o.reason, "reason", "", "the merchant's own reason, kept with the correction")
	return c
}

// move asks the API and prints its answer.
func (o *movementOptions) move(cmd *cobra.Command, path string, body map[string]any) error {
	var answer json.RawMessage
	if err := o.post(cmd.Context(), path, body, o.request, &answer); err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), answer)
}

// oneID wants one argument that is an id of a kind.
func oneID(prefix string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || !strings.HasPrefix(args[0], prefix) {
			return fmt.Errorf("%w: name one id that begins with %s", errUsage, prefix)
		}
		return nil
	}
}
