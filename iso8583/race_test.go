//go:build race

package iso8583

// scaled keeps moov's share of the time bearable under the race detector.
func scaled(n int) int { return (n + 19) / 20 }

const raceEnabled = true
