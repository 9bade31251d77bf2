/**
 * The land of the world and the borders of countries, coarsely, made of Natural Earth 1:110m (public domain).
 * A line begins with "!" and four letters, the way to its beginning; from there on two letters say each step.
 */
const LAND =
  "!LDJD?EBA?ECFAK=F3IAM8E?I5M:D7@7C=>@871>194@9E2;075C4??>=8A<;9@6D8?7B26;8;<=9D9@7>=C8H4I9A7G;C;JBJ;V=B@@BC@>JMEBCIDC=@<D>TGF>CBE?F4@9<@:B>>:B;><;A=??C<D@A=FAF<E@IDH>@<36D<?>D>4D@BDA@A9C?>=>B=9>=G>@=ICF=@<C?>=?=ABB>A=?DI=?@E>@83@:6:=9?@?A@=>@=AAEGHB@@BGE@A<>?BAD>C>87:;<?<=>9E7@?E:C=FAB:G:@=C=<9A@;?>B9>7D>QAB6;9<??=I@?;BBG=A<F=B9G>C@A>?9A8E=?DBB=EADBA@BE>DCJ;FB@>D>A5C>BDB@A9=?@=G>F@C==>2C;;A2K4?=<<<B=E@D7J>IDG>F=A=N=?>D=A9*:G=A<=?:?3B<M5L)L0F=E@D9J?IF<BCEC>EDGBKIBH=D<B3:>AEE@JFD>:B=GDB?>;G9ECB;=<B<>;GBBE=A@CBCD>A<O6B@>ECAB=E@D=DDC;=<A=HBNLB<=:=??3I.HC@E>GBI@KCD9OCAG5?<A;=??<C8<9E:?9B@AE?ICA?:D<F@EE>8@6Q=>;C9C@F:G?A=G?CBF:E@C6G:EE<CFBAFB=I@HJ?F4LGDC>AFB>D>IBADKB@8KBDEAF?DCGECB7EDE>EBB>EA>8C<YFCEGGK>FBBC@FCBD?O@EGC>>;A<OBHDKIGG@EBA?;HAEG=C<@?H7<@=:@?;<ABD>B<C=@EJ@D;?5E7J<<9E?>=B<?<I@BCA@H=@?DAB;B@F;A@E<D<+A:C:D?O/B8<@?E9F>98B9JCC5B@<<?=C7?7B,VE@DDB>C@DE<U2T<B<>:E?D:D@BFI?F8B?8B@>=<>B;=?7DC:?>9F=@>BDECAC=DB@A<A;FCBEI>CBC?E8L8E2D?C>@@=<?9F@BHKBE?E5I@<;>><;?@=>@>LA@BEGFDK8<<6<;?AA6<0;D=?@:82=@@C7A>D4J;B?P9G>=7,>0:B<<A>:<=<3A4>><;B=?:<<9=@=AABGNA<BFF@G9AGEBCC;G?C:E8C?B6E2D=472>953A;=F<9IS@BCCBJCBBFKJ?BEDR;>H;K)V!@=@?BI>@<N=N;B<>>9D6>:A=F>H6!AM>L@C<A>:B<!A6@AADDB?G=@788376F@IIEBCD?B!@1@3LAABGB=A*<=?B=!@D@*CA9A!@0?RD?@A!@)@%<CD;G?!@(?DDC8>!@#?DBC?E>;!?F@$F=?D4@?BCCG>;CDJ>@A=<A?:>AAG>A?:>>C8C<!?D?HD<FD;FEF<A?D>B?G/==9@;B>DA@>E>!@2?B<CG7@C!@,@$A>A?@BB>=F!@,@%@C@C?=>A@C=?@<>?<BD<AAE>?>!@$?L@C>?@D>9!?N?C>KFAAD<=:?A>=>B7!@&?A=G?<C:!?2@9>?@=F>>D!A1?%D=BB;D!@<?=>C>K7A<D><5CCB>F>A??@===I9I?C:BBE;C5C@!@,?IB>@D<A>D;>?D=@?<B=C@A8!@&?/EV<>>FCG>>>C@0?0B>?>A?!@3<RGB<E7:A=!?>?LQF>H1B:9!>%>PGI?E0FE-!?>?6F<FIFP@M:B36:2!=3?OI<AED9DD5K?7!>L@+<I8B8=84I;DDC;!?=@3E:MQ9F7W8,9-H:!@C@B9F<=@8F=!AHA*L-N8N8@H%V8RFO5?::!=FB'@F<;!?,@/?:<>@<>C?8C7F@=FF?<IC@GNDA>DAB>C6@9C??G;;??>C??:!?O?R>G;C<?C;><F:B?CC!@KA&B>@G!?Q@$B?AC@E=A?8!@5@-B@?F9<@>!@I@-<A<?A?!@<@%E><D>>!@Q?HABDCI?@9>?@>>?A=E@=<>A@B?:=?=:BAA=D@@9;@:B:GBGHJ>@!<1=3?ECD=E5F5=C=9=E?@>:>B<E?DDD=DBD<!=FAF<GB>BA?BFA@CB@AE?C=@?<=C>@B>>?7@B>>>F7D<!?<@7ABE@=B=>!?&>7B?@D!?G?NB=DA<D!?Q?AFD@CC?AB>B<?>=9G?<=AB<A5BAACA?!@=?D;CA8B?BB!?I?0C<JME>JHEK;DSN:L58IR?E69GK(/6AB;K?C43-+>3:C<<@?7E3H>@LI4EP!@%?L?7KG!?2?F4;?545A;OEFNW>BL!?.?P>D9<F8!@#@3LC5R;7!?G@%=:C;IAAT<C45!?H?NFSJH;J7<+E8;=:N=0>?=F=7>E5G:AGG=DEC;DL@3!@%?6E??J/F<=E<0?F2RK?1!?N?ADB:H<<!@9?=MGCM19!@:?NDE;G<2!@*?8D6F?DIIGFP7O5??18;!@0?-L8E8FGB4I:R>SEKI@E0QF@8N8O0HEK3RFE8G'=@:E=?7IE84H2;2ICE:0?!?4A)AS<A=8;A@7!>K@&J/H>>N4G!?R@3KCFG+W88F/=:!?&@LMGF:DAH:BDC:GHC;AFD<D@JGG@DD<DEBJ=CEC<==B=E?EFC@ECI??;C?DC@FB;B@A8:8@7D9CBGM=DEB@HD:DE?EBEE4@8HBDC>HBH:E=A=>;L=D<@>C@D=A9K?KDACID?PJGAAHFJD:<6E>D9>8=<C:>2B?HBB>GHE@ALDDD=E8HR?CMHADCB@F<C8E/@2NM7D?CC=BBHDBD?C<BD0I>@@=E=9@@A6G?CCC5BE@;A=F>>BD=D?:@C>@BABH0NDN?F<>:3=A<=7AAC3>7H>OFKDBH>C9I?;PK@DB?LEFG>HCE9D@E<AA>BAGB=?=C?A>EEIAA>G@>AAADB@BEBEEIAGDDG>DFB@BB?HBACMAMGBE>E7L>M;L=D9A8D=C?I3S9A:=DI>F3B@G8AADC@AB;C?F;B?CFD?D7KCG<@<C@D;?::>0D9<?C<@:DAA8>??E??C2?8F0B,A-@<<=485+<=@<D:=?@=C;C>E9=4<>=BBB=A@>9><<@A>?@=;:6>69;B-8:;A<=<87?>88<8=?@EIKCGCC>B::@<8;C=<=;57:5,B->5D@AD@839?9<>@<87;38?799=<@7;=BAD6D@7C?@>6KBC>C:D:G3G;@Q4C=B9:C>=@B?=;C@:?><B<<>:A<C:DAF;><B>;C:?<>;:J:B@@CF@62<>A<E?G5H;CAD;DBBDB>DA@BDAC?MED?!?8AACB;E><!?3?CBA@B>A==!?G?>HD>A:>!B/A%C@?ECC:;@<!@>@<:?9;?=HB!AE=EAC?C<=>A<=D:!BR<DI2JAD7P@PAQR;I&CBCJ>HGE:@RT1IDAH3Q7BGA:UDW7EEF>KCI:@BH9BCJ9?IN;B:8>JKA(Q'Q<P;Q<@38:2:1D2D19F<=A6HB47C7:2;199,A84M<-7A;T2B:8:P,?7O8I@CFG5PO:6!=PG<KBLF6BB>;=8>@>7C!@8@-CA<A>>!@6@$8?F?>=F@GC:A>B!@?D>G=CB;C?>=B!?=@%CEGD?C<>=D8=66IEC;!?IB4J,BNBN1B!A:A1MFBW%P=3!?1@$LBD4AW4>!:/?/G=FP!>I?KV@V@F2F2VCK,P:Q:V>W>V>KMK)VHW7KIP>Q?D-C.D-P6Q7BXBXBXBWBXBXP@Q@R1S1R1L,K,K=Y>Y?Y?Y>K2VAP6Q7VGWGKOV2V3WFV6KHK:VGV:W;YLYKYKYLCUCUBUCUK@@Y@Y@Z@Y@Y&@%@&@&@%@&@&@%@&@&@&@%@&@&@%@&@&@%@&@&@%@&@&@%@&@&@%@&@&@&@%@&@&@%@&@&@%@&@!N68LEB?C<@!C2>B;B>C6@;D8=A=@;:.AB?=BB>:B8@BG;L=F6ACA?@=AAD:D?DCC@C9E?>>B?HCC?AB<GMHC<B5B;DKB?BBCLFDCFC@@CFHBF>I9P?F5F<>A><C8==:<>@<<CC8;G;88<!@P@CBA?H??>C>@<5EB!A3@,I4ACB?AC<FAB;A>G<C9=!@??=>D>B>>B=<=B=@;;6DCEHG@!?/>NDC>@::!?/?*<B<>E>BAD=@B!?4?LJDDDDB?DJI8>;:<?<B@B>A6=<@C=>;4;>A>=D><@<=E>DAAFCAF<";
const BORDERS =
  "!M/G598C7CCF8NDO@=:D<@;U9EAAEFA@BJ<HPB>HAKI:I:>>H9BAJ/<7D9F;>;78A778C@N;<<B!?H@#>B<>.:!@'@*FB!@'?RDI!?R@#<==;D?DA@=!?N@4@7DCA@D=CE!?L@A,7!?R?OF<D6FADE>FIM!?R@';>D>!@-@3>@!@2?O@A!@$@%<G7??=!@$@2I=@8!@5?LE;96O@B;G>E2K=GE!@,@5TG!@%@%C=EB!@2?QDB=LC?BFEB!?P@&C=C=CEC@?DIJ@E:@!@)@#AE7F!?M@/:?!?O?IC;9-H:CC@FF=DCAI:@?F!?R?5I=GF!?(?Q?;=AD;5<AM!>I?NH><8F=J2<9K<CD@JFD=DIENC@;BBIB?=L:CD@D:A9N@D!A#A(BDI?F7E@!?I?RCAA=!@=@K@A!@P?R@.!?0=89C!?N?KG9DAE;BBA6F?E35B;:<>;39=9A;N<B=?>IF>DF:@5G<?@F<C1E(;=;4<@976L:NDE6MII?DDFAK;FB!>3@%?A!??@>.K!?K?P<BLACG!??@$I;CFH>AA!?G?@?CGB:C?==A;D@I=?*,8F!@2@7@=5;7C!@6@;C=<9B7EAJ9!>.@(B=P>!?A@,@E!?Q@$B??B!@#@$?C!?P@$BEA:A=@?I>AD:BAE9B!?P?@=@!?F?:;A7B><A9!?P@*B@!?N@%AD!?Q@'B<F>!@,?Q?D!@*?H0>98!@*?L9G<AAD7@HI?@!@&@&B=ACC>><>B==@;!@#@(?D!@'?R@A!?I?D?>!@%?N>E9B7>>>I@B:IA@BN?!@%?P5>698DDF!@,@$E<!?I?L=4!?D?MD@!?@@4HC!@#@(@>@=B4!?G@-IGA@EB?F<DBCBI!?F@'3=!??@)GB=O!?P@B@<T5>7!?A@<JG!?2@.F@I/H>@A@E7?=N5A!@$@2F>FFS=>2?2D@ZR>J7B4D<I9@=;9?>:!@%@):@8@!?R?QI?8@!@'@*D<!@)@3D<!@(@%A8!@*@#GB!@+?OB@!@'?Q;7!@,@,=P!?D@&@3@<H@CN!?;@(>7;>=;:C!A2@9E@@=E@!?N@#<@!@'@4D:EA@7<=H@<9B8!@,@.=@<D!?K@6=A!@$@%B=EAC<G,C<HCN<JE<N?D@EDJ!?O?ID:?<J@!?I@#>A!?R@'D?!@$?BH>!@'?P:9B>!?9@$HH!?G?C=<C7B@@5C>@:P@Q@!@(@/;C?H9P=6<G/>>F<82I8A=:D?=8?A==5B6=<A?E<@<BCN!@E?A:P9A>E!@3?<><D9B5=9C>VL!@&?K@2A1!?-?M:J;6B3!@&@:@MGH+M!@8?FHB!?P>6E@C<FB!?E?QAC!?I?N6D!@+?M:?!?N?KA>!?-?<@EDA!A>?HK?EC!?M?HHB!@%?CJ2;<A1=8B;<;@:G<!?L@'B;<<8L6;>B>E;?=D7[=@?X=G!@?@5DE8?!@+@$BA!@#@.@5F?C9D>!@#@R<5!@+@/<?E;=::@5A>>B=C:?;TAC=!@(@=DA!@,?MD=A93<<8:A?;D?;68=>9B5!?>>EHIAM!A(D,B<JBE;H?DG!?7@.>A9:6A!@4@(>DC@BELD!?F?I?A!?P@G>3B=I=H8C6!?8@P16C8=9D=HEJ?!?O@K0C;::=:C@GCD0:<@>55B<:5A!?R@CP@O@=<@7F@?;!@=@+8E!@/?GCM>B;8?3!?J@H43EAI9GC@K<E!@%@1?=!?K@-;CBCC:!?:?FC-L>:?!?@@EJ@@4EFE<F@K6E@AK=CD@B@!:P?PA;=@?;:??:@5;@?929A;4D=@@;9@=;D:H=@/HBH?B><;K=DC?FI@F?D@D:!?L?O?J!?K?H>FDF!?J?A;FBC!?6?@:GDGMB?IBE!?<@&6<!?O@0CEK2FFHBAD!?=?3A<!?D@$A<!?J?OF@!?H?NL:!?F@'<>C<!?P?MAE!?P@)B?!@&?G=B;@BE<@?D!?E?2;>;77@984A5<:@!?->,B;1,:D69@+@+@+!D1BH>8<?9J7@*LA2046A8;&@&A&@!BQB(@E!@'B*B>!@*@291B1><!@B@=6?>G!@1@<KFAF!?)A:6?<4F->7C2C1>7J%B=ECE>NI=FHAC;CD5J>L!?;AF;@@6";

/** How wide and how high the world is that they are drawn in, in Mercator's projection. */
const SIDE = 1000;

/** The place of a point in degrees, from 0 to 1: from west to east, and from north to south. */
export function project(longitude, latitude) {
  const steep = Math.tan(((90 + Math.min(85, Math.max(-85, latitude))) * Math.PI) / 360);
  return { x: (longitude + 180) / 360, y: 0.5 - Math.log(steep) / (2 * Math.PI) };
}

/** The degrees of a place: [latitude, longitude]. */
export function degrees({ x, y }) {
  return [(Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) * 360) / Math.PI - 90, x * 360 - 180];
}

function pathOf(letters) {
  const path = new Path2D();
  let [x, y] = [0, 0];
  for (let at = 0; at < letters.length; ) {
    const code = (ahead) => letters.charCodeAt(at + ahead);
    if (letters[at] === "!") {
      x += 48 * (code(1) - 64) + code(2) - 35;
      y += 48 * (code(3) - 64) + code(4) - 35;
      path.moveTo(x, y);
      at += 5;
    } else {
      x += code(0) - 64;
      y += code(1) - 64;
      path.lineTo(x, y);
      at += 2;
    }
  }
  return path;
}

let paths = null;

/** Draws the world where the plane from 0 to 1 lies at `left` and `top` and is `scale` pixels wide. */
export function drawWorld(context, { left, top, scale }, land, water) {
  paths ??= [LAND, BORDERS].map(pathOf);
  const ratio = scale / SIDE;
  for (const turn of [-1, 0, 1]) {
    context.save();
    context.translate(left + turn * scale, top);
    context.scale(ratio, ratio);
    context.fillStyle = land;
    context.fill(paths[0], "evenodd");
    // Behind the south pole.
    context.fillRect(0, 0.99 * SIDE, SIDE, SIDE);
    context.lineWidth = 1 / ratio;
    context.strokeStyle = water;
    context.stroke(paths[1]);
    context.restore();
  }
}
