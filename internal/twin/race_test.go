//go:build race

package twin_test

const raceDetector = true
