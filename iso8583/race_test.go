//go:build race

package iso8583

// scaled keeps moov's share of the time bearable under the race detector: a
// quarter for each dialect, about the whole count for each family of encodings.
func scaled(n int) int { return (n + 3) / 4 }

const raceEnabled = true
