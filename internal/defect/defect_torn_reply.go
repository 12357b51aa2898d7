//go:build defect_torn_reply

package defect

// Planted is the defect of this build.
const Planted = TornReply
