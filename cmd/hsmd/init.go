package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"authswitch/hsm/desk"
	"authswitch/hsm/server"
	"authswitch/hsm/token"
)

func initCommand() *cobra.Command {
	var path, testKeys string
	c := &cobra.Command{
		Use: "init", Short: "Make token, local master key and audit key, where they are missing", Args: noArgs,
		Long: `Makes what hsmd cannot start without, and leaves alone what is there: with
SoftHSM its configuration and a token with PINs drawn for it, with a file root
the file; then lmk/1 and the key that signs the audit log. For the first two
officers it draws a code each, into the file enrolment.codes (mode 0600) of the
data directory: whoever sets the module up hands them over, and each is good for
one enrolment.

--test-keys takes keys in clear, one a line: NAME ATTRIBUTES HEX, attributes as
in a key block's header (K0TBN). It prints each as a key block, one JSON object a
line. The root of trust is marked for ever, and refused by the production
profile.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return initialise(cmd.OutOrStdout(), path, testKeys) },
	}
	c.Flags().StringVar(&path, "config", "hsmd.yaml", "the configuration file")
	c.Flags().StringVar(&testKeys, "test-keys", "", "a file of clear test keys, mode 0600; not in production")
	return c
}

func initialise(out io.Writer, path, testKeys string) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	if testKeys != "" && c.Profile == server.Production {
		return fmt.Errorf("%w: --test-keys: not with profile production", errUsage)
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := makeRoot(&c.Root); err != nil {
		return err
	}
	r, err := openRoot(&c.Root)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := makeKeys(r, c.Audit.Key); err != nil {
		return err
	}
	codes, err := drawCodes(c.DataDir)
	if err != nil {
		return err
	}
	if testKeys != "" {
		return letTestKeysIn(out, r, testKeys)
	}
	masters, err := r.Masters()
	if err != nil {
		return err
	}
	d, err := r.Describe()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "root of trust: %s %s %q, serial %q; local master keys %v, audit/%d\n", d.Manufacturer, d.Model, d.Label, d.Serial, masters, c.Audit.Key)
	if codes > 0 {
		fmt.Fprintf(out, "enrolment codes of the first officers, one for each of %d: %s\n", codes, filepath.Join(c.DataDir, codesFile))
	}
	return nil
}

// drawCodes sees to it that each of the first officers who is not enrolled yet
// has a code, and says how many there are.
func drawCodes(dir string) (int, error) {
	list, err := desk.File(filepath.Join(dir, officersFile)).Load()
	if err != nil {
		return 0, fmt.Errorf("look for officers: %w", err)
	}
	needed, err := desk.Founders(list)
	if err != nil {
		return 0, fmt.Errorf("look for officers: %w", err)
	}
	file := desk.File(filepath.Join(dir, codesFile))
	there, err := file.Load()
	if err != nil {
		return 0, fmt.Errorf("look for enrolment codes: %w", err)
	}
	if needed == 0 || len(bytes.Fields(there)) >= needed {
		return needed, nil
	}
	drawn := make([]string, needed)
	for i := range drawn {
		drawn[i] = rand.Text()
	}
	return needed, file.Save(desk.Codes(drawn...))
}

// makeRoot makes token or file, and leaves one that is there.
func makeRoot(c *RootConfig) error {
	var err error
	if c.Kind == kindFile {
		err = token.CreateFile(c.File)
	} else {
		err = makeToken(c)
	}
	if errors.Is(err, token.ErrExists) {
		return nil
	}
	return err
}

// makeToken makes SoftHSM's configuration, both PINs and the token.
func makeToken(c *RootConfig) error {
	if c.SoftHSMConf != "" {
		if err := writeSoftHSMConf(c.SoftHSMConf); err != nil {
			return err
		}
	}
	if c.PINCredential != "" || c.OfficerPINFile == "" {
		return nil // the token is made with its vendor's tool, or there is one
	}
	for _, path := range []string{c.OfficerPINFile, c.PINFile} {
		if err := drawPIN(path); err != nil {
			return err
		}
	}
	officer, err := readSecret(c.OfficerPINFile)
	if err != nil {
		return err
	}
	defer clear(officer)
	pin, err := readSecret(c.PINFile)
	if err != nil {
		return err
	}
	defer clear(pin)
	return token.InitPKCS11(c.pkcs11(), officer, pin)
}

// writeSoftHSMConf points SoftHSM to a directory beside the file, unless the
// file is there.
func writeSoftHSMConf(path string) error {
	tokens := filepath.Join(filepath.Dir(path), "tokens")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write SoftHSM's configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.MkdirAll(tokens, 0o700)
	}
	if err != nil {
		return fmt.Errorf("write SoftHSM's configuration: %w", err)
	}
	return nil
}

// drawPIN writes a PIN that nobody needs to know into a new file.
func drawPIN(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("draw a token PIN: %w", err)
	}
	_, err = f.WriteString(rand.Text() + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("draw a token PIN: %w", err)
	}
	return nil
}

// makeKeys makes lmk/1 where there is no local master key, and the audit key.
func makeKeys(r token.Keeper, auditKey int) error {
	masters, err := r.Masters()
	if err != nil {
		return err
	}
	if len(masters) == 0 {
		if err := r.CreateMaster(1); err != nil {
			return err
		}
	}
	if _, err := r.PublicKey(auditKey); err == nil {
		return nil
	} else if !errors.Is(err, token.ErrKey) {
		return err
	}
	return r.CreateAudit(auditKey)
}
