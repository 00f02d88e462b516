package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"authswitch/merchant"
	"authswitch/vault"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, show and reload configuration, make its secrets"}
	var path string
	check := &cobra.Command{
		Use: "check", Short: "Report every fault of a configuration file, and of the files it names", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(path)
			if err != nil {
				return err
			}
			if faults := c.checkFiles(); len(faults) > 0 {
				return fmt.Errorf("configuration %s:\n%w", path, errors.Join(faults...))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	show := &cobra.Command{
		Use: "show", Short: "Show a configuration with its defaults filled in and its secrets left out", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(path)
			if err != nil {
				return err
			}
			e := yaml.NewEncoder(cmd.OutOrStdout())
			e.SetIndent(2)
			if err := e.Encode(c.shown()); err != nil {
				return fmt.Errorf("encode configuration: %w", err)
			}
			return e.Close()
		},
	}
	for _, of := range []*cobra.Command{check, show} {
		of.Flags().StringVar(&path, "config", "authswitch.yaml", "the configuration file")
	}
	c.AddCommand(check, show, reloadCommand(), secretsCommand(), apiKeyCommand())
	return c
}

// checkFiles reports what a start would stumble over in the files that hold
// secrets. The tools that read a configuration for its routes do without.
func (c *Config) checkFiles() []error {
	var faults []error
	if c.Vault.KeyFile == "" {
		// Its absence is Validate's business.
	} else if _, err := vault.OpenKeyFile(c.Vault.KeyFile, rand.Reader); err != nil {
		faults = append(faults, fmt.Errorf("vault.key_file: %w", err))
	}
	if _, err := merchant.ReadPepper(c.Vault.PepperFile); err != nil {
		faults = append(faults, fmt.Errorf("vault.pepper_file: %w", err))
	}
	if c.API.CertificateFile != "" {
		if _, err := tls.LoadX509KeyPair(c.API.CertificateFile, c.API.KeyFile); err != nil {
			faults = append(faults, fmt.Errorf("api.certificate_file, key_file: %w", err))
		}
	}
	return faults
}

// hashShown is how much of a key's hash is shown: enough to tell two apart.
const hashShown = 8

// shown is the configuration without what helps to forge a key. All other
// secrets stand in files of their own, of which it has only the paths.
func (c *Config) shown() *Config {
	s := *c
	s.Gateways = slices.Clone(c.Gateways)
	for i := range s.Gateways {
		g := &s.Gateways[i]
		g.KeyHashes = slices.Clone(g.KeyHashes)
		for j, hash := range g.KeyHashes {
			g.KeyHashes[j] = hash[:min(hashShown, len(hash))] + "…"
		}
	}
	return &s
}
