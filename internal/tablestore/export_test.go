package tablestore

import (
	"path/filepath"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// disks are those of the stores of a test, by path; others have the real one.
var disks sync.Map // of func(storage.Storage) storage.Storage

func init() {
	openFiles = func(path string) (storage.Storage, error) {
		s, err := storage.OpenFile(path, false)
		on, ok := disks.Load(path)
		if !ok {
			on, ok = disks.Load(filepath.Dir(path)) // of its segments
		}
		if ok && err == nil {
			s = on.(func(storage.Storage) storage.Storage)(s)
		}
		return s, err
	}
}

// PutOn puts the store of a path on a disk.
func PutOn(path string, disk func(storage.Storage) storage.Storage) { disks.Store(path, disk) }
