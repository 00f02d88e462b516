package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"authswitch/merchant"
	"authswitch/vault"
)

// secretsCommand makes the two files a node cannot start without. It never
// overwrites one: either would make what exists unreadable.
func secretsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "secrets DIRECTORY", Short: "Make vault.key and pepper, the two secret files of a node", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, pepper := filepath.Join(args[0], "vault.key"), filepath.Join(args[0], "pepper")
			if err := vault.CreateKeyFile(key, rand.Reader); err != nil {
				return err
			}
			if err := writeSynced(pepper, os.O_EXCL, []byte(rand.Text()+rand.Text())); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "vault.key_file: %s\nvault.pepper_file: %s\n", key, pepper)
			return err
		},
	}
}

// apiKeyCommand draws a gateway's key. It is printed once; the configuration
// keeps its hash.
func apiKeyCommand() *cobra.Command {
	var pepperFile string
	c := &cobra.Command{
		Use: "api-key", Short: "Draw a gateway's API key, and print the hash the configuration keeps", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pepper, err := merchant.ReadPepper(pepperFile)
			if err != nil {
				return err
			}
			hasher, err := merchant.NewHasher(pepper)
			if err != nil {
				return err
			}
			key, err := merchant.NewKey(rand.Reader)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "key, shown this once: %s\ngateways[].key_hashes: %s\n", key, hasher.Hash([]byte(key)))
			return err
		},
	}
	c.Flags().StringVar(&pepperFile, "pepper-file", "", "the file of vault.pepper_file (required)")
	_ = c.MarkFlagRequired("pepper-file")
	return c
}
