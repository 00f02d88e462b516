package sim

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// The document lists every amount, behaviour, fault and key there is.
func TestDocumentIsComplete(t *testing.T) {
	raw, err := os.ReadFile("../docs/simulators.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	want := func(what string) {
		t.Helper()
		if !strings.Contains(text, what) {
			t.Errorf("docs/simulators.md has no %s", what)
		}
	}
	for digits, b := range builtIn() {
		if plain := decline(b.code); b == plain && b.code == fmt.Sprintf("%02d", digits) {
			want(fmt.Sprintf(".%02d", digits))
			continue
		}
		want(fmt.Sprintf("| xx.%02d | `%s` |", digits, b.name))
	}
	for _, name := range deliveryNames[1:] {
		want("`" + name + "`")
	}
	for name := range defaultKinds {
		want("`" + name + "`")
	}
	for _, d := range decisionNames[1:] {
		want(d)
	}
	keys := reflect.TypeFor[Config]()
	for field := range keys.Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		want("`" + key + "`")
	}
}
