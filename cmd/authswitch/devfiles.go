package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"authswitch/api"
	"authswitch/keyring"
	"authswitch/link"
	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/vault"
)

// devLayout is what dev wrote and what it must start.
type devLayout struct {
	info       devInfo
	simulators []child
	nodes      []child
	addresses  []string // that the processes will listen on
}

// devMerchant is dev's one merchant; its gateway meets no limit.
const devMerchant = "parcels"

// devGateway is the gateway whose key dev prints; production refuses its name.
const devGateway = "dev"

// devLinks are dev's acquirers: CB twice, so that a failover can be seen.
var devLinks = []struct {
	name    payment.LinkName
	scheme  payment.Scheme
	dialect payment.DialectName
}{
	{"cb-a", payment.CB, "cb"},
	{"cb-b", payment.CB, "cb"},
	{"visa-a", payment.Visa, "visa"},
	{"mastercard-a", payment.Mastercard, "mastercard"},
	{"amex-a", payment.Amex, "amex"},
}

// Timers of dev, short enough to watch.
const (
	devAnswerTimeout = 3 * time.Second
	devOriginalLife  = 5 * time.Second
	devLateAfter     = 4 * time.Second
)

// writeDevFiles writes keys, configuration and scenarios, keeping what a
// directory already has.
func writeDevFiles(dir string, o devOptions, module *devModule) (*devLayout, error) {
	keys, err := devKeys(dir)
	if err != nil {
		return nil, err
	}
	l := &devLayout{info: devInfo{
		API: loopback(o.portBase + portAPI), Admin: loopback(o.portBase + portAdmin),
		Key: keys.gateway, AdminKey: keys.administrator, Merchant: devMerchant, DataDir: dir,
	}}
	config := Config{
		API:            api.Config{Budget: devAnswerTimeout + 5*time.Second},
		Vault:          VaultConfig{KeyFile: filepath.Join(dir, "vault.key"), PepperFile: filepath.Join(dir, "pepper")},
		HSM:            module.section(),
		Clearing:       ClearingConfig{Dir: filepath.Join(dir, "clearing")}, // of whichever node leads
		Keys:           keyring.Config{Preload: time.Second},
		Gateways:       []merchant.GatewayConfig{{ID: devGateway, KeyHashes: []string{keys.gatewayHash}, Merchants: []payment.MerchantID{devMerchant}}},
		Administrators: []merchant.AdministratorConfig{{ID: devGateway, KeyHashes: []string{keys.administratorHash}}},
	}
	for i, d := range devLinks {
		address := hostPort(o.portBase + portSim + i)
		l.addresses = append(l.addresses, address)
		ledger := filepath.Join(dir, string(d.name)+".jsonl")
		lc := LinkConfig{KeepsNoHold: true, SimulatorLedger: ledger, Config: link.Config{
			Name: d.name, Scheme: d.scheme.String(), Dialect: d.dialect, Address: address,
			Window: 1024, AnswerTimeout: devAnswerTimeout, MaxOriginalLife: devOriginalLife, BackoffLongest: time.Second,
			ConnectionsInAll: o.inAll, StateScope: link.Scope(o.scope),
		}}
		l.info.Links = append(l.info.Links, devLink{Name: string(d.name), Scheme: d.scheme.String(), Dialect: string(d.dialect), Address: address, Ledger: ledger})
		scenario := filepath.Join(dir, string(d.name)+".yaml")
		script := map[string]any{
			"name": string(d.name), "dialect": string(d.dialect), "listen": address, "ledger": ledger, "wire": wireFile(ledger),
			"codec": o.simCodec, "late_after": devLateAfter.String(), "remember_reversals": i%2 == 0,
		}
		if err := module.secure(&config, &lc, script, dir); err != nil {
			return nil, err
		}
		config.Links = append(config.Links, lc)
		if err := writeYAML(scenario, script); err != nil {
			return nil, err
		}
		l.simulators = append(l.simulators, child{name: "sim " + string(d.name), args: []string{"sim", "run", scenario}, logs: os.Stderr})
	}
	config.Merchants = []merchant.Document{devMerchantConfig()}
	if err := l.writeNodes(dir, o, config); err != nil {
		return nil, err
	}
	return l, nil
}

// devMerchantConfig takes CB, Visa, Mastercard and Amex in EUR on every channel.
func devMerchantConfig() merchant.Document {
	m := merchant.Document{Config: merchant.Config{ID: devMerchant, Name: "Parcels and stamps"}, TimeZone: "UTC"}
	for _, scheme := range []payment.Scheme{payment.CB, payment.Visa, payment.Mastercard, payment.Amex} {
		c := merchant.ContractConfig{
			Scheme: scheme.String(), Terminal: "TERM0001", Acceptor: "PARCELS00000001", AcceptorName: "PARCELS/PARIS/FR",
			MCC: "9402", Acquirer: "497010", Country: "250", Currencies: []string{"EUR"},
		}
		for _, d := range devLinks {
			if d.scheme == scheme {
				c.Links = append(c.Links, d.name)
			}
		}
		m.Contracts = append(m.Contracts, c)
	}
	return m
}

// devSecrets are the keys that dev prints, and what its file has of them.
type devSecrets struct{ gateway, gatewayHash, administrator, administratorHash string }

// devKeys makes the key file, the pepper and the API keys, or reads those that a
// kept directory has.
func devKeys(dir string) (keys devSecrets, err error) {
	if err := vault.CreateKeyFile(filepath.Join(dir, "vault.key"), rand.Reader); err != nil && !errors.Is(err, fs.ErrExist) {
		return keys, err
	}
	pepper, err := keepSecret(filepath.Join(dir, "pepper"), func() (string, error) { return rand.Text() + rand.Text(), nil })
	if err != nil {
		return keys, err
	}
	hasher, err := merchant.NewHasher([]byte(pepper))
	if err != nil {
		return keys, err
	}
	for _, k := range []struct {
		file      string
		key, hash *string
	}{{"api.key", &keys.gateway, &keys.gatewayHash}, {"admin.key", &keys.administrator, &keys.administratorHash}} {
		*k.key, err = keepSecret(filepath.Join(dir, k.file), func() (string, error) { return merchant.NewKey(rand.Reader) })
		if err != nil {
			return keys, err
		}
		*k.hash = hasher.Hash([]byte(*k.key)).String()
	}
	return keys, nil
}

// keepSecret returns what the file holds, making it first where it is missing.
func keepSecret(path string, draw func() (string, error)) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	secret, err := draw()
	if err != nil {
		return "", err
	}
	if err := writeSynced(path, os.O_TRUNC, []byte(secret)); err != nil {
		return "", err
	}
	return secret, nil
}

func writeYAML(path string, v any) error {
	b, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeSynced(path, os.O_TRUNC, b)
}

func hostPort(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
func loopback(port int) string { return "http://" + hostPort(port) }
