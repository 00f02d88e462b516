package api

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// What the server routes and what openapi.yaml describes are the same paths, with
// the same methods, and each path of the file is found.
func TestRoutesAreDescribed(t *testing.T) {
	c := openContract(t)
	described := map[string]string{}
	for path, item := range c.spec.Paths.Map() {
		described[path] = strings.Join(slices.Sorted(maps.Keys(item.Operations())), ", ")
	}
	for r := routeNone + 1; r < routes; r++ {
		path := routeNames[r]
		if described[path] != allowed[r] {
			t.Errorf("%s takes %s, and openapi.yaml says %q", path, allowed[r], described[path])
		}
		delete(described, path)
		asked := strings.NewReplacer("{id}", "x", "{token}", "x", "{scheme}", "visa").Replace(path)
		if found, _, _ := match([]byte(asked)); found != r {
			t.Errorf("%s is served by %s", asked, routeNames[found])
		}
	}
	for path := range described {
		t.Errorf("openapi.yaml describes %s, which is not served", path)
	}
}
