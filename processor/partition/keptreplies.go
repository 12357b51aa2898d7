package partition

import "sync/atomic"

// keptReplies bounds what all streams of a binding keep of their replies for the table. Safe for concurrent use.
type keptReplies struct {
	limit atomic.Int64
	bytes atomic.Int64
}

// take counts bytes, if there is room for them.
func (k *keptReplies) take(bytes int) bool {
	if k.bytes.Add(int64(bytes)) <= k.limit.Load() {
		return true
	}
	k.bytes.Add(-int64(bytes))
	return false
}

// give drops what is kept of a reply, nil for none.
func (k *keptReplies) give(f *flowedReply) {
	if f == nil {
		return
	}
	k.bytes.Add(-int64(f.kept))
	f.kept, f.messages = 0, nil
}
