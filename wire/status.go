package wire

import (
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
)

// StatusNames are the names of the statuses of gRPC, at their codes, as its specification spells them: the package codes has
// another spelling.
var StatusNames = func() (names []string) {
	for c := code.Code_OK; code.Code_name[int32(c)] != ""; c++ {
		names = append(names, c.String())
	}
	return names
}()

// StatusName is the name of a status; that of a code which gRPC does not define is its number.
func StatusName(c codes.Code) string {
	if int64(c) < int64(len(StatusNames)) {
		return StatusNames[c]
	}
	return strconv.FormatUint(uint64(c), 10)
}

// StatusOf is the status of a name, in any case and with either - or _ between its words. CANCELED is taken for CANCELLED.
func StatusOf(name string) (codes.Code, bool) {
	name = strings.ReplaceAll(strings.ToUpper(name), "-", "_")
	if name == "CANCELED" {
		return codes.Canceled, true
	}
	for i, known := range StatusNames {
		if known == name {
			return codes.Code(i), true
		}
	}
	return codes.Unknown, false
}
