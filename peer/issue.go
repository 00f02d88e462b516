package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Issue writes an authority and one certificate per node into a directory:
// ca.pem, ca.key, and NODE.pem and NODE.key. What is there already stays. It is
// for dev and tests, and for clusters whose owners have no authority of their
// own.
func Issue(dir string, random io.Reader, now time.Time, nodes ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	caPath, caKeyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	if _, err := os.Stat(caPath); errors.Is(err, fs.ErrNotExist) {
		ca := &x509.Certificate{
			SerialNumber: serial(now), Subject: pkix.Name{CommonName: "authswitch cluster"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * 365 * 24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if err := issue(ca, nil, nil, caPath, caKeyPath, random); err != nil {
			return err
		}
	}
	ca, caKey, err := readAuthority(caPath, caKeyPath)
	if err != nil {
		return err
	}
	for n, node := range nodes {
		path := filepath.Join(dir, node+".pem")
		if _, err := os.Stat(path); err == nil {
			continue
		}
		c := &x509.Certificate{
			SerialNumber: serial(now.Add(time.Duration(n + 1))), Subject: pkix.Name{CommonName: node}, DNSNames: []string{node},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if err := issue(c, ca, caKey, path, filepath.Join(dir, node+".key"), random); err != nil {
			return err
		}
	}
	return nil
}

func serial(now time.Time) *big.Int { return big.NewInt(now.UnixNano()) }

func issue(c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, certPath, keyPath string, random io.Reader) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(random, c, parent, key.Public(), parentKey)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	// The key first: a certificate says that all of it is there.
	if err := writePEM(keyPath, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}); err != nil {
		return err
	}
	return writePEM(certPath, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writePEM syncs what it writes: a power cut would else leave a file of no
// bytes, which nothing draws again.
func writePEM(path string, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	err = pem.Encode(f, block)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return nil
}

func readAuthority(certPath, keyPath string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(certPath)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates: %w", err)
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates: %w", err)
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("certificates: %s or %s is not PEM", certPath, keyPath)
	}
	ca, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates: %s: %w", certPath, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates: %s: %w", keyPath, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("certificates: %s is not an EC key", keyPath)
	}
	return ca, signer, nil
}
