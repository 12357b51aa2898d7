package outbox

import (
	"errors"
	"testing"
)

// A dead letter must not stand for a reply of which the caller has seen a part.
func TestPartOfAReplyIsNotReplacedByADeadLetter(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	tests := []struct {
		name    string
		records []error // of each record: nil is written, gone found no topic
		waiting int
		whole   bool
	}{
		{"all written", []error{nil, nil}, 0, false},
		{"none written", []error{gone, gone}, 2, true},
		{"only the message", []error{nil, gone}, 1, false},
		{"only the end", []error{gone, nil}, 1, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := NewReply(len(test.records), nil, nil)
			for i, err := range test.records {
				var end bool
				if err == nil {
					end = r.arrived()
				} else {
					end = r.returned(func(int64, error) {}, err)
				}
				if last := i == len(test.records)-1; end != (last && test.waiting > 0) {
					t.Errorf("record %d: end is %t", i, end)
				}
			}
			waiting, whole, err := r.result()
			if len(waiting) != test.waiting || whole != test.whole || test.waiting > 0 && !errors.Is(err, gone) {
				t.Errorf("%d wait, whole %t, %v; want %d, %t", len(waiting), whole, err, test.waiting, test.whole)
			}
		})
	}
}
