import java.io.File;
import java.io.IOException;
import java.security.KeyStore;
import java.util.Arrays;
import java.util.Collections;

/** Prints the names of the keys and trusted certificates of the stores of a folder that Java reads, as it tells them: in lower case. */
class List {
    public static void main(String[] args) throws Exception {
        File[] files = new File(args[0]).listFiles((dir, name) -> name.endsWith(".p12") || name.endsWith(".jks"));
        Arrays.sort(files);
        for (File file : files) {
            char[] password = file.getName().contains("no-password") ? new char[0] : "changeit".toCharArray();
            KeyStore store;
            try {
                store = KeyStore.getInstance(file, password);
            } catch (IOException e) {
                System.err.println(file.getName() + ": " + e);
                continue;
            }
            java.util.List<String> names = Collections.list(store.aliases());
            Collections.sort(names);
            for (String name : names) {
                System.out.println(file.getName() + "\t" + (store.isKeyEntry(name) ? "key" : "certificate") + "\t" + name);
            }
        }
    }
}
