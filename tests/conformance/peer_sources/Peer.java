import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.ExtendedSSLSession;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * A peer of TLS on JSSE: {@code client} asks and says in one line what it met, {@code server} answers
 * and says in its answers what it met. Options are those of peer.go; a key comes as PKCS#12.
 */
public final class Peer {
  private static final Map<String, String> options = new HashMap<>();
  private static final int LONG = 200_000;

  public static void main(String[] args) throws Exception {
    for (int i = 1; i < args.length; i += 2) {
      options.put(args[i].substring(1), args[i + 1]);
    }
    // Else it could not even try; and a KeyUpdate for each 64 KiB where it is asked for.
    Security.setProperty("jdk.tls.disabledAlgorithms", "SSLv3");
    if (options.containsKey("update")) {
      Security.setProperty("jdk.tls.keyLimits", "AES/GCM/NoPadding KeyUpdate 2^16");
    }
    if (args[0].equals("server")) {
      serve();
      return;
    }
    try {
      System.out.println(ask());
    } catch (Exception failed) {
      Throwable cause = failed;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      System.out.println("failed: " + cause.getMessage());
    }
  }

  private static SSLContext context() throws Exception {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    if (options.containsKey("ca")) {
      try (InputStream file = new FileInputStream(options.get("ca"))) {
        trusted.setCertificateEntry(
            "ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
      }
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(trusted);
    KeyManagerFactory keys = null;
    if (options.containsKey("pair")) {
      KeyStore own = KeyStore.getInstance("PKCS12");
      try (InputStream file = new FileInputStream(options.get("pair"))) {
        own.load(file, "pair".toCharArray());
      }
      keys = KeyManagerFactory.getInstance("PKIX");
      keys.init(own, "pair".toCharArray());
    }
    SSLContext made = SSLContext.getInstance("TLS");
    made.init(keys == null ? null : keys.getKeyManagers(), trust.getTrustManagers(), null);
    return made;
  }

  private static void shape(SSLParameters parameters) {
    String max = options.getOrDefault("max", "1.3");
    parameters.setProtocols(
        Arrays.stream(new String[] {"TLSv1.1", "TLSv1.2", "TLSv1.3"})
            .filter(version -> version.compareTo("TLSv" + max) <= 0)
            .toArray(String[]::new));
    if (options.containsKey("alpn")) {
      parameters.setApplicationProtocols(options.get("alpn").split(","));
    }
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.ISO_8859_1);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.ISO_8859_1);
  }

  private static String dns(X509Certificate of) throws Exception {
    return of.getSubjectAlternativeNames().iterator().next().get(1).toString();
  }

  private static String version(SSLSession session) {
    return session.getProtocol().substring("TLSv".length());
  }

  private static String ask() throws Exception {
    String[] at = options.get("at").split(":");
    String name = options.get("name");
    int port = Integer.parseInt(at[1]);
    String head = "GET / HTTP/1.1\r\nhost: " + name + "\r\nconnection: close\r\n\r\n";
    if (options.containsKey("update")) {
      head = "POST / HTTP/1.1\r\nhost: " + name + "\r\nconnection: close\r\ncontent-length: " + LONG + "\r\n\r\n";
      head += "x".repeat(LONG);
    }
    if (options.containsKey("plain")) {
      try (Socket socket = new Socket(at[0], port)) {
        socket.getOutputStream().write(bytes(head));
        return text(socket.getInputStream().readAllBytes()).split(" ")[1];
      }
    }
    SSLContext context = context();
    if ("h2".equals(options.get("alpn"))) {
      HttpClient client =
          HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).sslContext(context).build();
      HttpResponse<String> answer =
          client.send(
              HttpRequest.newBuilder(URI.create("https://" + name + ":" + port + "/")).build(),
              HttpResponse.BodyHandlers.ofString());
      return version(answer.sslSession().get()) + " h2 " + answer.version() + " " + answer.statusCode();
    }
    int resumed = 0;
    long created = 0;
    for (int i = 1; ; i++) {
      Socket below = new Socket(at[0], port);
      try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(below, name, port, true)) {
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setServerNames(List.of(new SNIHostName(name)));
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        shape(parameters);
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        socket.getOutputStream().write(bytes(head));
        // An end without close_notify is an error.
        String answer = text(socket.getInputStream().readAllBytes());
        SSLSession session = socket.getSession();
        // What was resumed keeps the time of its first handshake.
        resumed += session.getCreationTime() == created ? 1 : 0;
        created = session.getCreationTime();
        if (i == Integer.parseInt(options.getOrDefault("times", "1"))) {
          String chosen = socket.getApplicationProtocol();
          return String.join(
              " ",
              version(session),
              chosen.isEmpty() ? "-" : chosen,
              answer.split(" ")[1],
              dns((X509Certificate) session.getPeerCertificates()[0]),
              "resumed",
              String.valueOf(resumed));
        }
      }
    }
  }

  private static void serve() throws Exception {
    SSLContext context = context();
    SSLServerSocket listener =
        (SSLServerSocket)
            context.getServerSocketFactory().createServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
    SSLParameters parameters = listener.getSSLParameters();
    shape(parameters);
    parameters.setNeedClientAuth("require".equals(options.get("client")));
    listener.setSSLParameters(parameters);
    System.out.println("listening 127.0.0.1:" + listener.getLocalPort());
    while (true) {
      SSLSocket socket = (SSLSocket) listener.accept();
      new Thread(() -> answer(socket)).start();
    }
  }

  private static String head(InputStream in) throws IOException {
    ByteArrayOutputStream head = new ByteArrayOutputStream();
    while (!text(head.toByteArray()).endsWith("\r\n\r\n")) {
      int next = in.read();
      if (next < 0) {
        return "";
      }
      head.write(next);
    }
    return text(head.toByteArray());
  }

  private static void answer(SSLSocket socket) {
    try (socket) {
      for (String head = head(socket.getInputStream()); !head.isEmpty(); head = head(socket.getInputStream())) {
        ExtendedSSLSession session = (ExtendedSSLSession) socket.getSession();
        String who = "-";
        if ("require".equals(options.get("client"))) {
          who = dns((X509Certificate) session.getPeerCertificates()[0]);
        }
        String chosen = socket.getApplicationProtocol();
        SNIHostName asked = (SNIHostName) session.getRequestedServerNames().get(0);
        String body =
            String.join(" ", version(session), chosen.isEmpty() ? "-" : chosen, asked.getAsciiName(), who) + "\n";
        String path = head.split(" ")[1];
        if (path.equals("/long")) {
          body = "x".repeat(LONG);
        }
        if (path.equals("/closed")) {
          socket.getOutputStream().write(bytes("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body));
          return;
        }
        socket
            .getOutputStream()
            .write(bytes("HTTP/1.1 200 OK\r\ncontent-length: " + body.length() + "\r\n\r\n" + body));
      }
    } catch (Exception failed) {
      System.out.println("failed: " + failed.getMessage());
    }
  }
}
