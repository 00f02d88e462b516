package main

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

var errConfig = errors.New("not the configuration that dev writes")

// onlyVisa leaves one link in the configuration that dev wrote, wide enough for
// all of an outage's payments, and contracts for nothing else. Silence is not
// to end by itself there.
func onlyVisa(content []byte) ([]byte, error) {
	var config map[string]any
	if err := yaml.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	links := with(config["links"], "name", "visa-a")
	merchants := with(config["merchants"], "id", "parcels")
	door, _ := config["api"].(map[string]any)
	if len(links) != 1 || len(merchants) != 1 || door == nil {
		return nil, errConfig
	}
	contracts := with(merchants[0]["contracts"], "scheme", "visa")
	if len(contracts) != 1 {
		return nil, errConfig
	}
	links[0]["window"], links[0]["answer_timeout"] = widest, silenceLimit.String()
	merchants[0]["contracts"] = contracts
	door["budget"] = (2 * silenceLimit).String()
	for _, limit := range []string{"connections", "connections_per_address", "requests"} {
		door[limit] = widest
	}
	config["links"], config["merchants"] = links, merchants
	delete(config, "rules") // they name links that are not there
	return yaml.Marshal(config)
}

// profiled turns the node's profiles on.
func profiled(content []byte) ([]byte, error) {
	var config map[string]any
	if err := yaml.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	admin, _ := config["admin"].(map[string]any)
	if admin == nil {
		return nil, errConfig
	}
	admin["pprof"] = true
	return yaml.Marshal(config)
}

// with keeps the elements of a list that have a value under a key.
func with(list any, key string, value any) (kept []map[string]any) {
	elements, _ := list.([]any)
	for _, e := range elements {
		if m, ok := e.(map[string]any); ok && m[key] == value {
			kept = append(kept, m)
		}
	}
	return kept
}
