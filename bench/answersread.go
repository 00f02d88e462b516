package bench

// answerLine is a line of the answers file.
type answerLine struct {
	Key      string `json:"key"`
	Merchant string `json:"merchant"`
	Body     string `json:"body_sha256"`
	ID       string `json:"id"`
	Outcome  string `json:"outcome"`
	Amount   int64  `json:"amount"`
	Status   int    `json:"status"`
	Final    bool   `json:"final"`
}
