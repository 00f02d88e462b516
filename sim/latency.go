package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// draw is how long the next answer takes.
func (l *Latency) draw(random *rand.Rand) time.Duration {
	var d float64
	mean, deviation := float64(l.Mean), float64(l.Deviation)
	switch l.Distribution {
	case "constant":
		return l.Mean
	case "normal":
		d = mean + deviation*random.NormFloat64()
	case "exponential":
		d = mean * random.ExpFloat64()
	case "lognormal":
		// mean and deviation are those of the latency, not of its logarithm.
		variance := math.Log(1 + deviation*deviation/(mean*mean))
		d = math.Exp(math.Log(mean) - variance/2 + math.Sqrt(variance)*random.NormFloat64())
	default:
		return 0
	}
	return time.Duration(min(max(d, 0), float64(l.Max)))
}
