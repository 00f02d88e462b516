// Package batch takes refunds by the thousand: it reads a file of them line by
// line, holds every line to the journal, writes a batch that is whole down, and
// starts its lines beside live traffic.
//
// It decides nothing about money: a line becomes a refund under the journal's
// rules, like any other. It keeps nothing of a card: a number that stands in a
// line is held against the payment's by its blind index, and wiped with the line.
// Called by api; its Runner is started by cmd on every node, and only the
// leader's acts.
package batch
