package rowpb

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Version is the layout of the rows that this program writes, and the only one that it reads.
const Version = 1

// Decode reads a row of the table. A row of another layout is an error: what it means is not known.
func Decode(b []byte) (*Row, error) {
	row := new(Row)
	if err := proto.Unmarshal(b, row); err != nil {
		return nil, err
	}
	if row.Version != Version {
		return nil, fmt.Errorf("row version %d, this program reads %d", row.Version, Version)
	}
	return row, nil
}

const expiresField protowire.Number = 17 // expires_ms

// Expiry reads only the expiry of an encoded row, in Unix milliseconds; 0 when there is none. A row may have
// messages of a megabyte, and it is asked for whenever a row is stored.
func Expiry(row []byte) (ms int64) {
	if !eachField(row, func(field protowire.Number, number uint64, _ []byte) {
		if field == expiresField {
			ms = int64(number)
		}
	}) {
		return 0
	}
	return ms
}
