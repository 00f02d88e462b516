package main

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"authswitch/peer"
)

// certificatesCommand makes what the members of a cluster know each other by.
func certificatesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "certificates DIR NODE…", Short: "Make an authority for a cluster, and a certificate for each node", Args: cobra.MinimumNArgs(2),
		Long: `Writes ca.pem and ca.key, and NODE.pem and NODE.key for each node, into a
directory; what is there already stays, so that it also makes the certificate of
one more node. A certificate lasts a year. Every node gets ca.pem and its own two
files; ca.key signs new members: keep it off the nodes. An authority of your own
does as well: a node's certificate has its id as only DNS name.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := peer.Issue(args[0], rand.Reader, time.Now(), args[1:]...); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ca.pem, ca.key, and NODE.pem and NODE.key of %v\n", args[0], args[1:])
			return nil
		},
	}
}
