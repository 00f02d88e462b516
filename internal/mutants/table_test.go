package mutants

// mutants are the deliberate breaks. Old stands exactly once in its file.
func mutants() []mutant {
	return []mutant{
		// What the gateway is told.
		{
			"answered before it is durable", "switch/authorize.go",
			"settled, err = s.Journal.Close(o)",
			"settled = payment.Settled{Outcome: *o, State: payment.StateApproved}", simulation(),
		},
		{
			"the answer is what was proposed", "switch/authorize.go",
			"out.Outcome, out.State = settled.Outcome, settled.State",
			"out.Outcome, out.State = settled.Outcome, settled.State\n\tif out.Outcome.Status != payment.StatusNone {\n\t\tout.Outcome = w.outcome\n\t}",
			simulation(),
		},
		{
			"another amount is an approval", "switch/exchange.go",
			"if r.Amount.Currency != 0 && r.Amount != a.Amount {",
			"if false {", simulation(),
		},
		{
			"a late approval approves", "payment/lifecycle.go",
			"EventCancelled: StateReversing, EventLateApproval: StateReversing, EventLateDecline: StateReversing,",
			"EventCancelled: StateReversing, EventLateApproval: StateApproved, EventLateDecline: StateReversing,", simulation(),
		},
		{
			"silence is a decline", "switch/exchange.go",
			"unknown(o, payment.CauseTimeout, payment.ReversalTimeout)",
			"o.Event, o.Status = payment.EventDeclined, payment.StatusDeclined", simulation(),
		},
		// What leaves, and when.
		{
			"sent before the intent is durable", "switch/authorize.go",
			"opened, err := s.Journal.Open(&out.Intent)", "s.exchange(a, w, l, &out.Intent)\n\topened, err := s.Journal.Open(&out.Intent)", simulation(),
		},
		{
			"a lost line is proof that nothing was sent", "link/core.go",
			"			c.counters.Lost++\n			c.giveUp(p, errLost, now)",
			"			c.counters.Lost++\n			c.finish(p, errUnwritten, now)", simulation(),
		},
		{
			"answers match by the trace number alone", "link/key.go",
			"case (r.rrn || e.rrn != nil) && !bytes.Equal(e.rrn, k.rrn[:]):\n		return deRRN\n	case (r.terminal",
			"case false:\n		return deRRN\n	case (r.terminal", simulation(),
		},
		// Numbers.
		{
			"a trace number is used twice", "link/numbers.go",
			"		r.FirstSTAN++\n", "		r.FirstSTAN += payment.STAN(r.FirstRRN & 1)\n", simulation(),
		},
		{
			"a range of numbers is leased twice", "journal/session.go",
			"		n.next = (n.next + 1) % leaseRanges\n", "", simulation(),
		},
		{
			"each link counts its own reference numbers", "journal/session.go",
			"		rrn := shared.rrn + 1\n		shared.rrn += LeaseSize\n",
			"		rrn := n.rrn + 1\n		n.rrn, shared.rrn = n.rrn+LeaseSize, n.rrn+LeaseSize\n", simulation(),
		},
		// Reversals.
		{
			"not found is believed at once", "journal/owed.go",
			"case m.now < m.believedFrom(o):", "case false:",
			[]string{"./journal", "-run", "^TestNotFound$"}, // in a cluster the outbox asks no earlier
		},
		{
			"not found is believed after a step of the clock", "journal/owed.go",
			"LifeOver: m.over(l.lifeOver, l.opened),", "LifeOver: l.lifeOver,",
			[]string{"./journal", "-run", "^TestClock"},
		},
		{
			"not found is believed of a refund after a step of the clock", "journal/answered.go",
			"LifeOver: m.over(o.LifeOver, o.Since),", "LifeOver: o.LifeOver,",
			[]string{"./journal", "-run", "^TestClock"},
		},
		{
			"a repeat never comes", "journal/owed.go",
			"	o.Due = m.repeatAt(o)\n", "	o.Due = m.repeatAt(o) + 3600e9\n", simulation(),
		},
		{
			"a repeat looks like the first", "iso8583/encode.go",
			"	if o.Tries > 1 {", "	if o.Tries > 200 {", simulation(),
		},
		{
			"a repeat has a number of its own", "journal/owed.go",
			"	if o.STAN == 0 {\n		o.STAN = k.STAN\n	}\n", "	if k.STAN != 0 {\n		o.STAN = k.STAN + payment.STAN(o.Tries)\n	}\n", simulation(),
		},
		{
			"silence acknowledges a reversal", "outbox/outbox.go",
			"\"tries\", o.Tries, \"error\", err)\n		return nil, payment.AdviceRepeat",
			"\"tries\", o.Tries, \"error\", err)\n		return &payment.Response{}, payment.AdviceAcknowledged", simulation(),
		},
		{
			"a reversal is sent without a claim", "outbox/operation.go",
			"		return s.Journal.Claim(s.Link, o.Seq, s.slot.STAN, s.slot.Transmitted)\n",
			"		c := *o\n		c.STAN, c.Transmitted, c.Tries = s.slot.STAN, s.slot.Transmitted, 1\n		return c, nil\n", simulation(),
		},
		// Idempotency.
		{
			"a key is forgotten when its payment ends", "journal/open.go",
			"for n := len(m.days) - 1; n >= max(0, len(m.days)-keptGenerations); n-- {", "for n := len(m.days) - 1; n >= len(m.days); n-- {", simulation(),
		},
		{
			"a key serves any body", "journal/open.go",
			"case k.fingerprint != h.fingerprint:\n		return payment.OpenConflict", "case false:\n		return payment.OpenConflict", simulation(),
		},
		{
			"a bar is not remembered", "journal/cancel.go",
			"		if !m.findKey(x.merchant, h, &k) {\n			m.setKey(x.merchant, h, &keyRecord{kind: keyBarred})\n		}\n		return\n",
			"		if !m.findKey(x.merchant, h, &k) {\n			return\n		}\n		return\n", simulation(),
		},
		// The state machine.
		{
			"a clock in the journal", "journal/machine.go",
			"	m.now = max(m.now, leader)\n", "	m.now = max(m.now, leader) + payment.Instant(time.Now().UnixNano()&7)\n", simulation(),
		},
		{
			"the order of a map in the journal", "journal/session.go",
			"	slices.SortFunc(m.sweepIDs, func(a, b payment.ID) int { return bytes.Compare(a[:], b[:]) })\n",
			"	_ = bytes.Compare\n", simulation(),
		},
		{
			"open payments are not found at start", "journal/machine.go",
			"if l != nil && l.state == payment.StateOpen {", "if l != nil && l.state == payment.StateNone {", simulation(),
		},
		{
			"what is owed is not found at start", "journal/machine.go",
			"		m.enlist(string(o.Link), o)\n		return c.end()", "		return c.end()", simulation(),
		},
		{
			"an entry is applied twice after a restart", "journal/machine.go",
			"	m.applied = c.u64()\n", "	m.applied = c.u64() - 1\n", simulation(),
		},
		{
			"a line of history is written over", "journal/life.go",
			"	l.lines++\n", "	if kind != payment.EntryOutcome {\n		l.lines++\n	}\n", simulation(),
		},
		// What becomes of the money.
		{
			"a capture over what is held", "journal/operate.go",
			"case op.Amount.Value <= 0 || op.Amount.Value > left:", "case op.Amount.Value <= 0:", interleavings(),
		},
		{
			"what is refunded is not counted", "journal/operate.go",
			"left = parent.Amount.Value - parent.Refunded", "left = parent.Amount.Value", interleavings(),
		},
		{
			"a refund without an answer is tried again at once", "journal/answered.go",
			"	op.State, op.Seq = payment.OperationReversing, reversal.Seq\n	m.writeOperation(l, op)\n",
			"	m.dispatch(l, a, op, m.now)\n", interleavings(),
		},
		{
			"an amount in doubt is released", "journal/answered.go",
			"		m.exceptOperation(l, op, o, never)\n", "		m.drop(l, o)\n		m.finish(l, a, op, payment.OperationFailed)\n", interleavings(),
		},
		{
			"a void is forgotten", "journal/answered.go",
			"		a.Captured -= capture.Amount.Value\n		capture.State = payment.OperationUndone\n", "", interleavings(),
		},
		{
			"a capture that left is withdrawn", "journal/operate.go",
			"if o == nil || o.Tries > 0 {", "if o == nil {", interleavings(),
		},
		{
			"a withdrawn capture stays in its file", "journal/clearing.go",
			"	m.keyA = appendClearingKey(m.keyA[:0], op.Means, link, op.File, op.FileLine)\n	m.view.writes.delete(m.keyA)\n	return true", "	return true", interleavings(),
		},
		{
			"a refund of a capture that came to nothing", "journal/capture.go",
			"		a.remove(id)\n		behind.State = failed\n", "		_ = failed\n		continue\n", interleavings(),
		},
		{
			"a correction on its way does not count", "journal/correct.go",
			"			net += c.Amount.Value // on its way\n", "", interleavings(),
		},
		{
			"a charge without its correction", "journal/open.go",
			"if h.capture.Mode == payment.CaptureCorrection && !m.corrects(h.id) {", "if false {",
			[]string{"./journal", "-run", "^TestCorrection"},
		},
		{
			"a capture after the cut-over is reversed", "journal/clearing.go",
			"	return capture.State == payment.OperationDone && capture.DecidedAt < h.at\n", "	_ = h\n	return false\n",
			[]string{"./journal", "-run", "^TestVoidAfterCutOver$"},
		},
		{
			"a verification is reversed", "journal/settle.go",
			"func (l *life) holdsNothing() bool { return l.capture.Mode == payment.CaptureNever }", "func (l *life) holdsNothing() bool { return false }",
			[]string{"./journal", "-run", "^TestVerification$"},
		},
		// The same, as gateways, acquirers and crashes of a whole cluster show it.
		{
			"an operation's key is forgotten", "journal/operate.go",
			"	if len(op.Key) > 0 {\n		m.setOperationKey(op, own)\n	}\n", "", simulation(),
		},
		{
			"a refund in doubt is not counted", "journal/operate.go",
			"		a.Refunded += v\n		parent.Refunded += v\n", "		a.Refunded += v\n", simulation(),
		},
		{
			"an increment counts before its answer", "journal/operate.go",
			"	case payment.OpRelease:\n		a.Released += v\n	case payment.OpRefund:\n		a.Refunded += v\n",
			"	case payment.OpIncrement:\n		a.Incremented += v\n	case payment.OpRelease:\n		a.Released += v\n	case payment.OpRefund:\n		a.Refunded += v\n", simulation(),
		},
		{
			"what came to nothing stays counted", "journal/answered.go",
			"	if !to.Holds() {\n		m.giveBack(l, a, op)\n	}\n", "", simulation(),
		},
		{
			"a claim is lost with its session", "outbox/operation.go",
			"s.answered(o, nil, payment.AdviceSilent)", "s.answered(o, nil, payment.AdviceNotSent)", simulation(),
		},
		{
			"a void after the claim removes the advice", "journal/operate.go",
			"if o == nil || o.Tries > 0 {", "if o == nil {", simulation(),
		},
		{
			"a void names the authorization", "journal/operate.go",
			"o.Original = payment.Message{MTI: capture.MTI, STAN: capture.STAN, Transmitted: m.firstSent(l, &capture)}", "", simulation(),
		},
		{
			"a refund answered late is done after all", "journal/answered.go",
			"	o := m.reversalOf(l, attempt, &owing{Owed: payment.Owed{Link: op.Link}}, true, answer.Response.ApprovalCode)\n",
			"	if op.State.Over() {\n		op.State = payment.OperationDone\n		m.writeOperation(l, &op)\n		return true\n	}\n	o := m.reversalOf(l, attempt, &owing{Owed: payment.Owed{Link: op.Link}}, true, answer.Response.ApprovalCode)\n",
			simulation(),
		},
		{
			"a refund is tried again beside its reversal", "journal/answered.go",
			"	op.State, op.Seq = payment.OperationReversing, reversal.Seq\n	m.writeOperation(l, op)\n",
			"	m.dispatch(l, a, op, m.now)\n", simulation(),
		},
		{
			"a refund leaves before its capture", "journal/operate.go",
			"	case a.current.IsZero() && !m.waitsForFile(op):\n", "	case true:\n", simulation(),
		},
		{
			"a payment is reversed from under its captures", "journal/capture.go",
			"	a.cancel = reason\n	m.advance(l, a)\n", "	l.state, _ = payment.Step(l.state, payment.EventCancelled)\n	m.owe(l, payment.EventCancelled, reason)\n", simulation(),
		},
		{
			"a cancelled payment stays approved", "journal/operate.go",
			"		l.state, _ = payment.Step(l.state, payment.EventCancelled)\n		m.owe(", "		m.owe(", simulation(),
		},
		{
			"what nobody captured stays held", "journal/capture.go",
			"if list[i].Due <= m.now && (", "if list[i].Due < 0 && (", simulation(),
		},
		{
			"a partial reversal says what goes", "iso8583/operations.go",
			"	out = appendZeroPadded(out, string(appendNumber(nil, uint64(v.owed.Remains))), 12)\n",
			"	out = appendZeroPadded(out, string(appendNumber(nil, uint64(v.intent.Amount.Value-v.owed.Remains))), 12)\n", simulation(),
		},
		{
			"refunds are reversed where none can be", "switch/operate.go",
			"	if l.RefundsFinal && (k == payment.OpRefund || k == payment.OpVoid) {\n", "	if false {\n", simulation(),
		},
		{
			"a batch's lines are started again", "journal/batchrun.go",
			"!l.Ended() && l.Next == x.Chunk && l.At == x.At {", "!l.Ended() {", simulation(),
		},
		{
			"another node's attempt is given up by a wrong clock", "journal/owed.go",
			"		if m.now < m.over(o.Due, o.Since) { //", "		if false { //",
			[]string{"./journal", "-run", "^TestSilentBeforeItsTime$"},
		},
		// What is collected until a day is over, and what it comes to.
		{
			"an upload leaves before its day is over", "journal/operate.go",
			"	case collected(op):\n		m.file(l, op)\n", "	case op.Means == payment.MeansFile:\n		m.file(l, op)\n", simulation(),
		},
		{
			"totals are due before every line has its end", "journal/upload.go",
			"	if b.Upload.Over == b.Lines {\n", "	if b.Upload.Over > 0 {\n", simulation(),
		},
		{
			"totals are sent again under another trace number", "clearing/upload.go",
			"			x.Tries, x.STAN = b.Upload.Tries, b.Upload.STAN\n", "			x.Tries = b.Upload.Tries\n", simulation(),
		},
		{
			"silence agrees to totals", "outbox/totals.go",
			"		return none, nil // the claim's pause brings the repeat\n",
			"		return none, r.Totals.AgreeTotals(x, &payment.Agreed{Answered: true, Balanced: true})\n",
			[]string{"./outbox", "-run", "^TestReconciler$"},
		},
		{
			"totals that differ are settled", "journal/upload.go",
			"	if u.Unbalanced > 0 {\n", "	if false {\n", simulation(),
		},
		{
			"refunds are not in the totals", "clearing/upload.go",
			"		x.Refunded += o.Amount.Value\n", "", simulation(),
		},
		{
			"an upload's line is handed over twice", "journal/upload.go",
			"	for ; b.Settled+1 < b.Next && b.Settled-first < MaxSettle; b.Settled++ {\n", "	for n := b.Settled; n+1 < b.Next && n-first < MaxSettle; n, b.Settled = n+1, n {\n", simulation(),
		},
		{
			"a withdrawn line stays counted", "journal/clearing.go",
			"	h.open.Lines--\n", "", simulation(),
		},
		{
			"the next day's lines join a closed batch", "journal/clearing.go",
			"Number: h.open.Number + 1, State", "Number: h.open.Number, State", simulation(),
		},
		{
			"a refund leaves before its capture's file", "journal/clearing.go",
			"		(inFile(&capture) || ", "		(false && inFile(&capture) || ", simulation(),
		},
		{
			"a refund of a capture that was not taken stays in its batch", "journal/capture.go",
			"behind.State != payment.OperationWaiting && !inFile(&behind) {", "behind.State != payment.OperationWaiting {",
			[]string{"./journal", "-run", "^TestUploadOfARefundWithoutItsCapture$"},
		},
		// Refunds that name no payment, payment links, stored cards.
		{
			"the key of a refund without a payment is forgotten", "journal/credit.go",
			"		m.setOperationKey(op, own)\n", "		_ = own\n", simulation(),
		},
		{
			"a refund without a payment is tried again beside its reversal", "journal/answered.go",
			"	m.drop(l, o)\n	reversal := m.reversalOf(l, op, o, approves(r), r.ApprovalCode)\n",
			"	m.drop(l, o)\n	if op.Parent.IsZero() && op.Kind == payment.OpRefund {\n		m.dispatch(l, a, op, m.now)\n		return\n	}\n	reversal := m.reversalOf(l, op, o, approves(r), r.ApprovalCode)\n",
			simulation(),
		},
		{
			"a payment link is paid twice", "journal/paymentlinks.go",
			"		k.Used++\n", "", simulation(),
		},
		{
			"a stolen card stays", "journal/settle.go",
			"		m.blockCard(l.token)\n", "", simulation(),
		},
		{
			"a blocked card takes its payment's answer away", "switch/authorize.go",
			"		return s.refuseCard(a, out, describeRefusal(err))\n", "		return describeRefusal(err)\n",
			[]string{"./switch", "-run", "^TestSameKeyAfterItsCard$"},
		},
		{
			"a clock set back makes an attempt overdue", "switch/authorize.go",
			"	if came > now || now-came > longestWait {", "	if now-came > longestWait {",
			[]string{"./switch", "-run", "^TestClockBackBetweenAttempts$"},
		},
		{
			"a clock set forward lengthens an attempt's life", "switch/authorize.go",
			"	if came > now || now-came > longestWait {", "	if came > now {",
			[]string{"./switch", "-run", "^TestClockForwardBeforeAnAttempt$"},
		},
		{
			"not found is believed of what was asked too early", "outbox/outbox.go",
			"if o.Due <= o.LifeOver {", "if false {",
			[]string{"./outbox", "-run", "^TestNotFoundAskedTooEarly$"},
		},
		// The store: only the real one shows.
		{
			"the log is not synced", "store/log.go",
			"b.Commit(pebble.Sync)", "b.Commit(pebble.NoSync)", bubble(60),
		},
	}
}
