package main_test

import (
	"bufio"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The sizes of the two large stories. The whole of them is
// -tour.show=1000 -tour.lines=30000, and takes some minutes.
var (
	tourShow  = flag.Int("tour.show", 200, "tickets of the cancelled performance")
	tourLines = flag.Int("tour.lines", 600, "lines of the batch file")
)

// TestTour tells the four stories of scripts/tour, the script that the README
// names, to a node of its own, and reads on the wire that they went as told: no
// story ends well without its messages.
func TestTour(t *testing.T) {
	d := startDev(t)
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if program, err = filepath.Abs(program); err != nil {
		t.Fatal(err)
	}
	tour := exec.Command("bash", "../../scripts/tour", d.info.DataDir)
	tour.Env = append(os.Environ(), "AUTHSWITCH_BIN="+program, "SHOW="+strconv.Itoa(*tourShow), "LINES="+strconv.Itoa(*tourLines), "RATE=100")
	out, err := tour.CombinedOutput()
	told := string(out)
	if err != nil || !strings.HasSuffix(told, "All as told.\n") {
		t.Fatalf("%v\n%s", err, tail(told, 6000))
	}
	for _, want := range []string{
		"→ visa-a  0100", "→ visa-a  0220", "→ visa-a  0400", "← visa-a  0230", // an authorization, a capture, a refund's reversal
		"411111******1111", "DE 90   Original data elements", "original transaction identifier", "no_difference", "cvv_required", "cvv_not_allowed", "unknown_token",
		"duplicate_batch", strconv.Itoa(*tourLines) + " lines", strconv.Itoa(*tourShow) + " lines",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("the tour does not show %q", want)
		}
	}
	for _, card := range []string{visaCard, mastercardCard, cbCard, amexCard} {
		for line := range strings.Lines(told) { // what it asks with is the story's, and shown
			if strings.Contains(line, card) && !strings.HasPrefix(line, "$ curl") && !strings.Contains(line, `"save_card":true`) && !strings.Contains(line, `"usage":"first"`) {
				t.Errorf("a card number: %s", line)
			}
		}
	}
	d.verified()
}

// TestReadmeTour: what the README says of the tour is what there is.
func TestReadmeTour(t *testing.T) {
	f, err := os.Open("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	named := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 2 && words[0] == "scripts/tour" && words[1] == "DATA" {
			for _, name := range words[2:] {
				if name == "#" {
					break
				}
				named[name] = true
			}
		}
	}
	script, err := os.ReadFile("../../scripts/tour")
	if err != nil {
		t.Fatal(err)
	}
	for _, story := range []string{"parcel", "card", "show", "batch"} {
		if !named[story] || !strings.Contains(string(script), "\n"+story+"() {") {
			t.Errorf("story %q is not in the README, or not in scripts/tour", story)
		}
	}
	if len(named) != 4 {
		t.Errorf("the README names %v", named)
	}
}
