package partition

import (
	"time"

	"kafkagrpc/processor/rowpb"
)

// Expire has the rows of keys removed that are found to have expired, if they still are in their turn. inject injects a payload into the claim of their partition. removed is closed
// when the removals are acknowledged; ok is false where the claim takes nothing any more. Safe for concurrent use.
func Expire(keys []string, inject func(key string, payload any) bool) (removed <-chan struct{}, ok bool) {
	last := make(chan struct{})
	for i, key := range keys {
		var e rowExpires
		if i == len(keys)-1 {
			e.removed = last
		}
		if !inject(key, e) {
			return nil, false
		}
	}
	return last, true
}

// expire removes a row that a sweep found, unless it has been written again since, or is about to be.
func (t *turn) expire(e rowExpires) {
	key := t.delivery.Key()
	row, _ := t.row(key).(*rowpb.Row)
	if row != nil && row.Waiting == nil && row.ExpiresMs != 0 && row.ExpiresMs <= time.Now().UnixMilli() && t.calls[key] == nil {
		t.deleteRow(key)
	}
	if e.removed != nil {
		t.delivery.Then(key, rowsRemoved(e))
	}
}
