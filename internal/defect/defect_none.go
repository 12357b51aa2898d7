//go:build !defect_commit_early && !defect_reply_first && !defect_forget_row && !defect_ignore_row && !defect_no_drain && !defect_no_line && !defect_torn_reply && !defect_outside && !defect_apart

package defect

// Planted is the defect of this build.
const Planted = None
