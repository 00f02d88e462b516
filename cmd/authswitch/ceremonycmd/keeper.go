package ceremonycmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"authswitch/hsm/ceremony"
	"authswitch/hsm/wire"
)

// errAlone is dual control, and nobody who asks.
var errAlone = errors.New("this module has operations on keys done by two officers: --officer NAME says which of them asks")

// Keeper leads an operation on keys to the admin socket of hsmd: alone where
// there are no officers, else one officer asks and another one approves.
type Keeper struct{ d desk }

// Flags adds where the module is, and who asks.
func (k *Keeper) Flags(c *cobra.Command) {
	k.d.where(c.Flags())
	k.d.who(c)
}

// Officer says whether somebody asks as an officer.
func (k *Keeper) Officer() bool { return k.d.officer != "" }

// Do has an operation done or asked for. The answer is nil where it waits for a
// second officer, which was said.
func (k *Keeper) Do(c *cobra.Command, op wire.Op, label string, fields []byte) (answer []byte, err error) {
	return answer, k.d.run(func(ctx context.Context) error {
		v, err := k.d.view()
		if err != nil {
			return err
		}
		if !v.Dual {
			answer, err = k.d.client.Ask(op, fields, 0)
			return err
		}
		if k.d.officer == "" {
			return fmt.Errorf("%w: %w", ErrUsage, errAlone)
		}
		payload, err := encode(ceremony.KeyRequest{Label: label, Fields: fields})
		if err != nil {
			return err
		}
		if v, err = k.d.act(ctx, ceremony.KeyAction(op), payload); err != nil {
			return err
		}
		if v.Asked != nil {
			fmt.Fprintf(k.d.stdout, "%s %s: ", v.Asked.Action, v.Asked.Object)
		}
		return k.d.waits(v)
	})(c, nil)
}

// done prints what an approved operation gave.
func (d *desk) done(v *ceremony.DoneView, out string) error {
	fmt.Fprintf(d.stdout, "done: %s %s, by %s\n", v.Action, v.Object, strings.Join(v.By, " and "))
	file := []byte(v.Sent + "\n")
	switch {
	case v.Key != nil:
		var text bytes.Buffer
		if err := json.Indent(&text, v.Paper, "", "  "); err != nil {
			return fmt.Errorf("read the warrant: %w", err)
		}
		text.WriteByte('\n')
		file = text.Bytes()
		fmt.Fprintf(d.stdout, "kcv %s\n", v.Key.KCV)
	case v.Sent != "":
		fmt.Fprintf(d.stdout, "kcv %s\n", v.KCV)
	default:
		fmt.Fprintf(d.stdout, "lmk/%d seals\n", v.Master)
		return nil
	}
	if out == "" {
		_, err := d.stdout.Write(file)
		return err
	}
	if err := os.WriteFile(out, file, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return nil
}

// code is what one of the first officers was given.
func (d *desk) code(ctx context.Context, path string) (string, error) {
	if path == "" {
		typed, err := d.terminal.secret(ctx, "Enrolment code, not shown: ")
		defer clear(typed)
		return string(typed), err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read an enrolment code: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read an enrolment code: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read an enrolment code: others than its owner have a right to %s; run: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTyped))
	if err != nil {
		return "", fmt.Errorf("read an enrolment code: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), nil
}
