// Package defect names the defects that the chaos suite plants to prove that its checkers find them. A build has one
// at most, chosen by its build tag defect_<name>, and none without: then every use of the package is a constant
// condition that the compiler removes. It is never to be released with one.
package defect

// Kind is one defect.
type Kind int

const (
	None        Kind = iota
	CommitEarly      // the highest finished offset is committed, not the finished prefix
	ReplyFirst       // a reply is emitted before its row is written
	ForgetRow        // a result is answered and not stored
	IgnoreRow        // a stored result is not looked at: its key is executed again
	NoDrain          // the end of a session cuts the calls in flight
	NoLine           // with processing.order, a call does not wait for those before it
	TornReply        // the message of a reply is written twice, as by a crash, and nothing says so
	Outside          // with exactly-once, offsets are committed before their transaction
	Apart            // with exactly-once, a reply is in a later transaction than its row
)
