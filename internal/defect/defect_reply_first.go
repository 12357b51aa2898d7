//go:build defect_reply_first

package defect

// Planted is the defect of this build.
const Planted = ReplyFirst
